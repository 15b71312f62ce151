import ReplicaProto

/// `create-md`: questions first, then log, bitmap, superblock (`metadata.md` 2.4, 8.4, 8.5).
extension MetaTool {
    func create(_ device: MetaDevice) throws(MetaFailure) -> Int32 {
        let sectors = device.size / 512
        let layout: MetadataLayout
        do throws(MetadataError) {
            layout = try MetadataLayout(
                arguments.index, deviceSectors: sectors, stripes: arguments.stripes ?? 1,
                stripeBlocks: arguments.stripeBlocks ?? 8)
        } catch {
            throw MetaFailure(10, "\(device.path): \(error.message)")
        }
        try askAboutMetadata(layout, on: device)
        try askAboutData(layout, on: device)

        console.write("initializing activity log\n")
        try writeInitialisedLog(layout, on: device)
        if arguments.skipsBitmap {
            console.writeError("NOT initializing bitmap\n")
        } else {
            console.writeError("initializing bitmap (\(layout.bitmapSectors / 2) KB) to all zero\n")
            try device.clear(at: layout.bitmap * 512, count: layout.bitmapSectors * 512)
        }
        console.write("Writing meta data...\n")
        try device.flush()
        try write(
            layout.freshSuperblock(peerMaximumRequest: arguments.peerMaximumRequest ?? 0), layout, on: device)
        console.write("New drbd meta data block successfully created.\n")
        return 0
    }

    /// Metadata already in place, of whatever format: may it go?
    private func askAboutMetadata(_ layout: MetadataLayout, on device: MetaDevice) throws(MetaFailure) {
        var places = [layout.superblock]
        if arguments.index == .internal,
            let old = MetadataLayout.fixedInternal07Sector(deviceSectors: device.size / 512)
        {
            places.append(old)
        }
        for place in places {
            let block = try device.read(at: place * 512, count: Superblock.blockBytes)
            guard let format = Superblock.format(of: block) else { continue }
            if format != .v07 && place != layout.superblock { continue }
            let question: String
            if format == .v08 {
                if arguments.index == .internal {
                    preamble(format, at: place, on: device)
                    question = "Do you really want to overwrite the existing meta-data?"
                } else {
                    question = "Valid meta data seems to be in place.\nDo you really want to overwrite?"
                }
            } else {
                preamble(format, at: place, on: device)
                console.writeError("Converting \(format.rawValue) meta-data is not supported.\n")
                question = "So you want me to replace the \(format.rawValue) meta-data\n"
                    + "with newly initialized v08 meta-data?"
            }
            guard isConfirmed(question) else { throw MetaFailure(1, "Operation cancelled.") }
        }
    }

    private func preamble(_ format: MetadataFormat, at sector: UInt64, on device: MetaDevice) {
        let kind = arguments.index == .internal ? "flexible-size internal" : "fixed-size external"
        console.writeError(
            "You want me to create a v08 style \(kind) meta data block.\n"
                + "There appears to be a \(format.rawValue) \(kind) meta data block\n"
                + "already in place on \(device.path) at byte offset \(sector * 512)\n")
    }

    /// Somebody else's data: it is refused to destroy what is recognised, and asked about the rest.
    private func askAboutData(_ layout: MetadataLayout, on device: MetaDevice) throws(MetaFailure) {
        var found = ExistingData(try device.read(at: 0, count: ExistingData.inspectedBytes))
        guard let name = found.name else { return }
        if found == .logicalVolumeManager {
            let sectors = host.physicalVolumeSectors(device.path)
            found = .recognised(name, usedBytes: sectors.map { $0 > .max / 512 ? .max : $0 * 512 })
        }
        console.write(
            "md_offset \(layout.superblock * 512)\nal_offset \(layout.activityLog * 512)\n"
                + "bm_offset \(layout.bitmap * 512)\n\nFound \(name)\n")
        guard case .recognised(_, let used) = found else {
            console.write("\n ==> This might destroy existing data! <==\n")
            guard isConfirmed("Do you want to proceed?") else { throw MetaFailure(1, "Operation canceled.") }
            return
        }
        if arguments.index != .internal {
            guard arguments.ignoreSanityChecks else {
                throw MetaFailure(40, "\nThis would corrupt existing data.\n\(Self.wipeAdvice(device.path))")
            }
            return
        }
        guard let used else {
            guard arguments.ignoreSanityChecks else {
                throw MetaFailure(
                    40,
                    "\nHow much space it uses cannot be told: the meta data might corrupt it.\n"
                        + Self.wipeAdvice(device.path))
            }
            return
        }
        let usedKilobytes = used / 1024 + (used % 1024 == 0 ? 0 : 1)
        let usableKilobytes = layout.usableSectors / 2
        console.write(
            "\(column(usedKilobytes)) kB data area apparently used\n"
                + "\(column(usableKilobytes)) kB left usable by current configuration\n")
        if usedKilobytes > usableKilobytes {
            throw MetaFailure(
                40,
                """

                Device size would be truncated, which would corrupt data
                and result in 'access beyond end of device' errors.
                Use external meta data, shrink what is there first, or clear it:
                \(Self.wipeAdvice(device.path))
                """)
        }
        console.write(
            "\nEven though it looks like this would place the new meta data into unused space,\n"
                + "this is only a guess from a signature, and needs a confirmation.\n")
        guard isConfirmed("Do you want to proceed?") else { throw MetaFailure(1, "Operation canceled.") }
    }

    private func column(_ value: UInt64) -> String {
        let text = String(value)
        return String(repeating: " ", count: max(0, 12 - text.count)) + text
    }

    private static func wipeAdvice(_ path: String) -> String {
        "To destroy the existing data, clear its beginning: dd if=/dev/zero of=\(path) bs=1M count=1 conv=notrunc\n"
            + "Operation refused."
    }
}
