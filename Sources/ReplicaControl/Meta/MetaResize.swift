import Glibc
import ReplicaProto

/// `check-resize` and the memory of where a minor's internal metadata was last seen (`metadata.md` 6.6).
extension MetaTool {
    /// What `drbd-minor-N.lkbd` says.
    private struct LastKnown {
        var size: UInt64
        var uuid: UInt64
    }

    /// Remembers where the metadata of a device that somebody else has open lies, if it lies where it should.
    package static func noteSize(device words: [String], console: MetaConsole = .standard, host: MetaHost = .standard) {
        var quiet = console
        quiet.write = { _ in }
        do throws(MetaFailure) {
            let tool = MetaTool(arguments: try MetaArguments(parsing: words + ["check-resize"]), console: quiet, host: host)
            let device = try MetaDevice(path: tool.arguments.path, access: .shared)
            if let found = try tool.find(on: device) { try tool.remember(found.superblock, device) }
        } catch {
            console.writeError(error.message + "\n")
        }
    }

    private var lastKnownPath: String? {
        arguments.minor.map { "\(host.libraryDirectory)/drbd-minor-\($0).lkbd" }
    }

    func checkResize(_ device: MetaDevice) throws(MetaFailure) -> Int32 {
        if let found = try find(on: device) {
            try remember(found.superblock, device)
            return 0
        }
        guard let old = try findAtLastKnownPlace(on: device) else {
            throw MetaFailure(1, "no suitable meta data found :(")
        }
        _ = try move(old, on: device)
        return 0
    }

    /// Notes the size of a device with internal metadata; for external metadata there is nothing to note.
    func remember(_ superblock: Superblock, _ device: MetaDevice) throws(MetaFailure) {
        guard let path = lastKnownPath, !arguments.dryRun else { return }
        guard arguments.index == .internal else { return forget() }
        var text = "\(device.size)\t\(device.path)\n"
        if superblock.deviceUUID != 0 { text += "uuid:\t\(GenerationText.hex(superblock.deviceUUID, digits: 16))\n" }
        let temporary = path + ".new"
        if let slash = host.libraryDirectory.lastIndex(of: "/") { mkdir(String(host.libraryDirectory[..<slash]), 0o755) }
        mkdir(host.libraryDirectory, 0o755)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else {
            console.writeError("\(temporary): \(errorText(errno)); growing this device offline will not be noticed\n")
            return
        }
        let bytes = Array(text.utf8)
        let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        let isSynced = fsync(descriptor) == 0
        close(descriptor)
        guard written == bytes.count, isSynced, rename(temporary, path) == 0 else {
            console.writeError("\(path): \(errorText(errno)); growing this device offline will not be noticed\n")
            unlink(temporary)
            return
        }
    }

    func forget() {
        if let path = lastKnownPath, !arguments.dryRun { unlink(path) }
    }

    private func lastKnown() -> LastKnown? {
        guard let path = lastKnownPath else { return nil }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let text = String(decoding: MetaConsole.readAll(descriptor) ?? [], as: UTF8.self)
        let lines = text.split(separator: "\n")
        guard let first = lines.first?.split(separator: "\t").first, let size = UInt64(first) else { return nil }
        var uuid: UInt64 = 0
        if lines.count > 1, lines[1].hasPrefix("uuid:\t") {
            uuid = GenerationText.parseHex(lines[1].dropFirst(6), digits: nil) ?? 0
        }
        return LastKnown(size: size, uuid: uuid)
    }

    /// Metadata where the device ended when it was last seen.
    func findAtLastKnownPlace(on device: MetaDevice) throws(MetaFailure) -> Found? {
        guard arguments.index == .internal, let known = lastKnown(), known.size <= device.size,
            let place = MetadataLayout.superblockSector(.internal, deviceSectors: known.size / 512)
        else { return nil }
        let block = try device.read(at: place * 512, count: Superblock.blockBytes)
        let found: Found
        do throws(MetadataError) {
            let superblock = try Superblock(decoding: block)
            found = Found(
                superblock: superblock,
                layout: try MetadataLayout(.internal, superblock: superblock, deviceSectors: known.size / 512))
        } catch {
            if arguments.verbosity > 0 { console.writeError("\(device.path): \(error.message)\n") }
            return nil
        }
        guard found.superblock.deviceUUID == known.uuid || arguments.force else {
            throw MetaFailure(
                1,
                "\(device.path): the meta data at byte \(place * 512) belongs to another device "
                    + "(UUID \(GenerationText.hex(found.superblock.deviceUUID, digits: 16)))")
        }
        return found
    }

    /// Moves internal metadata to the end of a grown device: every bit keeps its number, bits of the new part are
    /// clear. Log first, then the bitmap from its far end, so that overlapping areas come out right; until the new
    /// superblock is durable, the old one is touched only where the areas overlap.
    func move(_ old: Found, on device: MetaDevice) throws(MetaFailure) -> Found {
        let new: MetadataLayout
        do throws(MetadataError) {
            new = try MetadataLayout(
                .internal, deviceSectors: device.size / 512, stripes: old.layout.stripes,
                stripeBlocks: old.layout.stripeBlocks)
        } catch {
            throw MetaFailure(10, "\(device.path): \(error.message)")
        }
        guard new.usableSectors >= old.superblock.lastAgreedSectors else {
            throw MetaFailure(
                1,
                "\(device.path): the larger bitmap would leave \(new.usableSectors) sectors of "
                    + "\(old.superblock.lastAgreedSectors); grow the device a little more")
        }
        let ring = try device.read(at: old.layout.activityLog * 512, count: Int(old.layout.activityLogSectors * 512))
        try device.write(ring, at: new.activityLog * 512)
        let kept = min(old.layout.bitmapSectors, new.bitmapSectors) * 512
        var left = kept
        let isUpwards = new.bitmap >= old.layout.bitmap
        while left > 0 {
            let piece = min(1 << 20, left)
            let offset = isUpwards ? left - piece : kept - left
            let bytes = try device.read(at: old.layout.bitmap * 512 + offset, count: Int(piece))
            try device.write(bytes, at: new.bitmap * 512 + offset)
            left -= piece
        }
        try device.clear(at: new.bitmap * 512 + kept, count: new.bitmapSectors * 512 - kept)
        try device.flush()
        var superblock = old.superblock
        new.describe(in: &superblock)
        try write(superblock, new, on: device)
        if old.layout.superblock + 8 <= new.bitmap {
            try device.clear(at: old.layout.superblock * 512, count: UInt64(Superblock.blockBytes))
            try device.flush()
        }
        console.write("Internal drbd meta data successfully moved.\n")
        return Found(superblock: superblock, layout: new)
    }
}
