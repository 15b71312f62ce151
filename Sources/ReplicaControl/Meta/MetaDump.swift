import Glibc
import ReplicaProto

/// `dump-md`, `verify-dump`, `restore-md`, `apply-al` (`metadata.md` 4.10, 8.3).
extension MetaTool {
    /// Bytes of bitmap handled at a time.
    private static let windowBytes: UInt64 = 1 << 20

    func dump(_ device: MetaDevice) throws(MetaFailure) -> Int32 {
        var found = try find(on: device)
        if found == nil, let old = try findAtLastKnownPlace(on: device) {
            console.write("# Found at the last known place, byte \(old.layout.superblock * 512); run check-resize.\n")
            found = old
        }
        guard let found else { throw MetaFailure(1, "No valid meta data found") }
        let isUnclean = found.superblock.needsActivityLogApplied
        if isUnclean && !arguments.force {
            throw MetaFailure(1, "Found meta data is \"unclean\", please apply-al first")
        }
        var writer = MetadataDumpWriter(superblock: found.superblock, layout: found.layout)
        let command = ["drbdmeta", arguments.deviceWord, "v08", arguments.path, arguments.indexWord, "dump-md"]
        console.write(
            writer.head(
                date: host.dateText, command: "\(host.name)> \(command.joined(separator: " "))", isUnclean: isUnclean))
        var text = ""
        var done: UInt64 = 0
        while done < writer.bitmapBytes {
            let piece = min(Self.windowBytes, writer.bitmapBytes - done)
            writer.appendBitmap(try device.read(at: found.layout.bitmap * 512 + done, count: Int(piece)), to: &text)
            console.write(text)
            text = ""
            done += piece
        }
        writer.end(&text)
        console.write(text)
        return 0
    }

    func verifyDump() throws(MetaFailure) -> Int32 {
        _ = try parseDump()
        console.write("input file parsed ok\n")
        return 0
    }

    private func parseDump() throws(MetaFailure) -> MetadataDump {
        let name = arguments.rest.first ?? "-"
        let text: [UInt8]
        if name == "-" {
            text = console.readAll()
        } else {
            let descriptor = open(name, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw MetaFailure(20, "open(\(name)) failed: \(errorText(errno))") }
            defer { close(descriptor) }
            guard let bytes = MetaConsole.readAll(descriptor) else {
                throw MetaFailure(20, "read(\(name)) failed: \(errorText(errno))")
            }
            text = bytes
        }
        do throws(MetadataDumpError) {
            return try MetadataDump(parsing: text)
        } catch {
            throw MetaFailure(10, "\(name):\(error.line): \(error.message)")
        }
    }

    func restore(_ device: MetaDevice) throws(MetaFailure) -> Int32 {
        let dump = try parseDump()
        if try find(on: device) != nil {
            guard isConfirmed("Valid meta-data in place, overwrite?") else {
                throw MetaFailure(1, "Operation cancelled.")
            }
        }
        let layout: MetadataLayout
        do throws(MetadataError) {
            guard dump.bytesPerBit == 4096 else { throw .bytesPerBit(dump.bytesPerBit) }
            layout = try MetadataLayout(
                arguments.index, deviceSectors: device.size / 512, stripes: arguments.stripes ?? dump.activityLogStripes,
                stripeBlocks: arguments.stripeBlocks ?? dump.activityLogStripeSize)
        } catch {
            throw MetaFailure(10, "\(device.path): \(error.message)")
        }
        var superblock = dump.superblock(for: layout)
        if superblock.lastAgreedSectors > layout.usableSectors {
            console.writeError(
                "la-size-sect \(superblock.lastAgreedSectors) does not fit, truncated (\(layout.usableSectors))!\n")
            superblock.lastAgreedSectors = layout.usableSectors
        }
        // The dump is of metadata whose log had been applied; the ring below says nothing.
        superblock.flags.insert(.activityLogClean)
        console.writeError("reinitializing\n")
        // What is there stops being valid before its parts change.
        try device.clear(at: layout.superblock * 512, count: UInt64(Superblock.blockBytes))
        try device.flush()
        try writeInitialisedLog(layout, on: device)
        try writeBitmap(dump, layout, on: device)
        try device.flush()
        try write(superblock, layout, on: device)
        console.write("Successfully restored meta data\n")
        return 0
    }

    private func writeBitmap(
        _ dump: MetadataDump, _ layout: MetadataLayout, on device: MetaDevice
    ) throws(MetaFailure) {
        let areaBytes = layout.bitmapSectors * 512
        if dump.wordCount > areaBytes / 8 {
            console.writeError("Bitmap of the dump is larger than the bitmap area; surplus words are cut off.\n")
        }
        var offset: UInt64 = 0
        var window: [UInt8] = []
        for run in dump.bitmap {
            var left = run.count
            while left > 0, offset + UInt64(window.count) + 8 <= areaBytes {
                for byte in 0..<8 { window.append(UInt8(truncatingIfNeeded: run.word >> UInt64(8 * byte))) }
                left -= 1
                if UInt64(window.count) == Self.windowBytes {
                    try device.write(window, at: layout.bitmap * 512 + offset)
                    offset += Self.windowBytes
                    window = []
                }
            }
        }
        while window.count % 4096 != 0, offset + UInt64(window.count) < areaBytes { window.append(0) }
        if !window.isEmpty { try device.write(window, at: layout.bitmap * 512 + offset) }
        offset += UInt64(window.count)
        try device.clear(at: layout.bitmap * 512 + offset, count: areaBytes - offset)
    }

    func applyLog(_ device: MetaDevice) throws(MetaFailure) -> Int32 {
        var found = try find(on: device)
        if found == nil, let old = try findAtLastKnownPlace(on: device) { found = try move(old, on: device) }
        guard let found else { throw MetaFailure(1, "No valid meta data found") }
        let ring = try device.read(at: found.layout.activityLog * 512, count: Int(found.layout.activityLogSectors * 512))
        let application: ActivityLogApplication
        do throws(ActivityLogApplicationError) {
            application = try ActivityLogApplication(superblock: found.superblock, ring: ring)
        } catch {
            throw MetaFailure(1, error.message)
        }
        if let ignored = application.ignoredError { console.writeError("\(ignored.message) Error ignored.\n") }
        if application.ignoredError == nil && application.corruptBlocks > 0 && application.superblock != nil {
            console.writeError("\(application.corruptBlocks) corrupt AL transactions found\n")
        }
        for extent in application.extentsBeyond {
            console.writeError("Extent \(extent) is beyond the end of the bitmap, skipped.\n")
        }
        let added = try mark(application.extents, found.layout, on: device)
        if added > 0 {
            console.writeError(
                "Marked additional \(GenerationText.size(kilobytes: added * 4)) as out-of-sync based on AL.\n")
        }
        if !application.extents.isEmpty { try device.flush() }
        if application.initialisesRing {
            if let disarmed = found.superblock.withoutLog {
                try write(disarmed, found.layout, on: device)
                try device.flush()
            }
            try writeInitialisedLog(found.layout, on: device)
            try device.flush()
        }
        if let superblock = application.superblock { try write(superblock, found.layout, on: device) }
        return 0
    }

    /// Sets the bits of whole extents on the device, a page at a time.
    private func mark(
        _ extents: [UInt32], _ layout: MetadataLayout, on device: MetaDevice
    ) throws(MetaFailure) -> UInt64 {
        var added: UInt64 = 0
        var index = 0
        while index < extents.count {
            let page = UInt64(extents[index] >> 5)
            let start = page * 4096
            guard start < layout.bitmapSectors * 512 else { break }
            let length = min(4096, layout.bitmapSectors * 512 - start)
            var bytes = try device.read(at: layout.bitmap * 512 + start, count: Int(length))
            while index < extents.count, UInt64(extents[index] >> 5) == page {
                let first = Int(extents[index] & 31) * ActivityLogApplication.bytesPerExtent
                for byte in first..<min(first + ActivityLogApplication.bytesPerExtent, bytes.count)
                where byte < bytes.count {
                    added += UInt64((~bytes[byte]).nonzeroBitCount)
                    bytes[byte] = 0xff
                }
                index += 1
            }
            try device.write(bytes, at: layout.bitmap * 512 + start)
        }
        return added
    }
}
