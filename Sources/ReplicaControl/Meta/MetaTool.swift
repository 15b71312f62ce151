import CLinux
import Glibc
import ReplicaProto

/// The offline metadata tool: drbdmeta's grammar, answers and exit status for the v08 format
/// (`metadata.md` section 8, `control.md` 2.10 and 2.13).
///
/// Exit status: 0 done; 1 failed or declined; 5 cannot be outdated; 10 bad value, bad dump, I/O error, device too
/// small; 20 usage, device cannot be opened or is in use; 40 existing data would be destroyed.
package struct MetaTool {
    let arguments: MetaArguments
    let console: MetaConsole
    let host: MetaHost

    /// Runs one command line (without the program's name).
    package static func run(
        arguments: [String], console: MetaConsole = .standard, host: MetaHost = .standard
    ) -> Int32 {
        do throws(MetaFailure) {
            let tool = MetaTool(arguments: try MetaArguments(parsing: arguments), console: console, host: host)
            return try tool.run()
        } catch {
            if !error.message.isEmpty {
                console.writeError(error.message.hasSuffix("\n") ? error.message : error.message + "\n")
            }
            return error.status
        }
    }

    /// `create-md` as an administrator's tool does it: the metadata keeps the device UUID that was there, or gets a
    /// random one.
    ///
    /// - Parameter device: `DEVICE FORMAT MDDEV INDEX`.
    package static func createKeepingDeviceUUID(
        device: [String], options: [String], console: MetaConsole = .standard, host: MetaHost = .standard
    ) -> Int32 {
        var found = ""
        var quiet = console
        quiet.write = { found += $0 }
        quiet.writeError = { _ in }
        quiet.isInteractive = false
        let hadOne = run(arguments: device + ["read-dev-uuid"], console: quiet, host: host) == 0
        let status = run(arguments: device + ["create-md"] + options, console: console, host: host)
        guard status == 0, !options.contains("--dry-run") else { return status }
        var uuid = hadOne ? GenerationText.parseHex(Substring(found.filter { $0 != "\n" }), digits: 16) ?? 0 : 0
        if uuid == 0 { uuid = host.randomUUID() }
        return run(
            arguments: device + ["write-dev-uuid", GenerationText.hex(uuid, digits: 16)], console: console, host: host)
    }

    private func run() throws(MetaFailure) -> Int32 {
        if arguments.command == .verifyDump { return try verifyDump() }
        let lock = try lockMinor()
        defer { if let lock { close(lock) } }
        let device = try openDevice()
        if arguments.dryRun { device.dryRun = console.write }
        if arguments.verbosity >= 2 { device.trace = console.writeError }
        switch arguments.command {
        case .createMD: return try create(device)
        case .restoreMD: return try restore(device)
        case .checkResize: return try checkResize(device)
        case .dumpMD: return try dump(device)
        case .applyAL: return try applyLog(device)
        case .wipeMD: return try wipe(device)
        case .verifyDump: return 0
        case .getGI, .showGI, .dstate, .readDeviceUUID:
            show(try existing(on: device))
            return 0
        case .setGI, .outdate, .invalidate, .writeDeviceUUID: return try edit(try existing(on: device), on: device)
        }
    }

    // MARK: Access

    /// Metadata found on a device.
    struct Found {
        var superblock: Superblock
        var layout: MetadataLayout
    }

    /// Takes the lock that drbdmeta takes for a minor, waiting up to a second for it. It is drbdmeta's own courtesy: what
    /// protects the metadata is that the device is held exclusively, so who may not have the file does without.
    private func lockMinor() throws(MetaFailure) -> Int32? {
        guard let minor = arguments.minor else { return nil }
        let path = "\(host.lockDirectory)/drbd-147-\(minor)"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if descriptor < 0, errno == EACCES || errno == ENOENT || errno == EROFS { return nil }
        guard descriptor >= 0 else { throw MetaFailure(20, "open(\(path)) failed: \(errorText(errno))") }
        var request = flock()
        request.l_type = Int16(F_WRLCK)
        request.l_whence = Int16(SEEK_SET)
        for _ in 0..<20 {
            if fcntl(descriptor, F_SETLK, &request) == 0 { return descriptor }
            guard errno == EAGAIN || errno == EACCES || errno == EINTR else { break }
            usleep(50_000)
        }
        let number = errno
        close(descriptor)
        throw MetaFailure(20, "\(path): cannot be locked: \(errorText(number))")
    }

    private func openDevice() throws(MetaFailure) -> MetaDevice {
        let access: MetaDevice.Access
        switch arguments.index {
        case .internal, .flexible: access = .exclusive
        case .indexed(let index):
            access = .range(
                UInt64(index) * MetadataLayout.indexedSectors * 512, MetadataLayout.indexedSectors * 512)
        }
        let device: MetaDevice
        do throws(MetaFailure) {
            device = try MetaDevice(path: arguments.path, access: access)
        } catch {
            // Looking at metadata in use is harmless to it, though what is seen may be old.
            guard arguments.command.isReadOnly, arguments.force else { throw error }
            console.writeError(error.message + "\n")
            device = try MetaDevice(path: arguments.path, access: .shared)
        }
        guard device.size >= UInt64(ExistingData.inspectedBytes) else {
            throw MetaFailure(10, "\(device.path) is only \(device.size) bytes. That's not enough.")
        }
        return device
    }

    /// Reads and checks the superblock at its place. Says why there is none only when asked to be verbose, but always
    /// names a format it knows and does not support.
    func find(on device: MetaDevice) throws(MetaFailure) -> Found? {
        let sectors = device.size / 512
        guard let place = MetadataLayout.superblockSector(arguments.index, deviceSectors: sectors) else { return nil }
        let block = try device.read(at: place * 512, count: Superblock.blockBytes)
        do throws(MetadataError) {
            var superblock = try Superblock(decoding: block)
            let layout = try MetadataLayout(arguments.index, superblock: superblock, deviceSectors: sectors)
            clip(&superblock, to: layout)
            return Found(superblock: superblock, layout: layout)
        } catch {
            if case .otherFormat = error {
                console.writeError("\(device.path): \(error.message)\n")
            } else if arguments.verbosity > 0 {
                console.writeError("\(device.path): \(error.message)\n")
            }
            return nil
        }
    }

    /// A size that the data area cannot have is cut, with a note that readers of dumps skip.
    private func clip(_ superblock: inout Superblock, to layout: MetadataLayout) {
        guard superblock.lastAgreedSectors > layout.usableSectors else { return }
        console.write(
            "# la-size-sect was too big (\(superblock.lastAgreedSectors)), truncated (\(layout.usableSectors))!\n")
        superblock.lastAgreedSectors = layout.usableSectors
    }

    private func existing(on device: MetaDevice) throws(MetaFailure) -> Found {
        guard let found = try find(on: device) else {
            throw MetaFailure(1, arguments.command == .dstate ? "No valid meta data found" : "")
        }
        return found
    }

    /// Writes a superblock durably and remembers where.
    func write(_ superblock: Superblock, _ layout: MetadataLayout, on device: MetaDevice) throws(MetaFailure) {
        try device.write(superblock.encoded(), at: layout.superblock * 512)
        try device.flush()
        try remember(superblock, device)
    }

    func writeInitialisedLog(_ layout: MetadataLayout, on device: MetaDevice) throws(MetaFailure) {
        let block = ActivityLogTransaction.initialisedBlock()
        let count = Int(layout.activityLogSectors / 8)
        var written = 0
        while written < count {
            let piece = min(256, count - written)
            try device.write(
                Array(repeatElement(block, count: piece).joined()), at: layout.activityLog * 512 + UInt64(written) * 4096)
            written += piece
        }
    }

    // MARK: Questions

    /// Asks on standard error; only `yes` is yes.
    func isConfirmed(_ question: String) -> Bool {
        console.writeError("\n\(question)\n")
        if arguments.force {
            console.writeError("*** confirmation forced via --force option ***\n")
            return true
        }
        guard console.isInteractive else {
            console.writeError("stdin not a TTY, not waiting for confirmation\n")
            return false
        }
        console.writeError("[need to type 'yes' to confirm] ")
        return console.readLine() == "yes"
    }

    // MARK: Small commands

    private func show(_ found: Found) {
        switch arguments.command {
        case .getGI: console.write(GenerationText.line(found.superblock) + "\n")
        case .showGI: console.write(GenerationText.explained(found.superblock))
        case .dstate: console.write(found.superblock.flags.offlineDiskState.name + "\n")
        default: console.write(GenerationText.hex(found.superblock.deviceUUID, digits: 16) + "\n")
        }
    }

    private func edit(_ found: Found, on device: MetaDevice) throws(MetaFailure) -> Int32 {
        var superblock = found.superblock
        switch arguments.command {
        case .outdate:
            guard superblock.flags.contains(.consistent) else { throw MetaFailure(5, "Device is inconsistent.") }
            superblock.flags.remove(.wasUpToDate)
        case .invalidate:
            superblock.flags.subtract([.consistent, .wasUpToDate])
            superblock.flags.insert(.fullSync)
        case .writeDeviceUUID:
            guard let word = arguments.rest.first, let uuid = GenerationText.parseHex(word[...], digits: nil) else {
                throw MetaFailure(10, "write-dev-uuid needs a UUID of up to 16 hexadecimal digits")
            }
            superblock.deviceUUID = uuid
        default:
            guard let line = arguments.rest.first else { throw MetaFailure(10, "set-gi needs generation identifiers") }
            guard let changed = GenerationText.apply(line, to: superblock) else {
                throw MetaFailure(10, "'\(line)' is not of the form C:B:H1:H2:f:f:f:f:f:f:f")
            }
            console.write("previously \(GenerationText.line(superblock))\n")
            console.write("set GI to  \(GenerationText.line(changed))\n")
            superblock = changed
            guard isConfirmed("Write new GI to disk?") else {
                console.write("Operation canceled.\n")
                return 0
            }
        }
        try write(superblock, found.layout, on: device)
        return 0
    }

    private func wipe(_ device: MetaDevice) throws(MetaFailure) -> Int32 {
        guard let found = try find(on: device) else {
            console.writeError("There appears to be no drbd meta data to wipe out?\n")
            return 0
        }
        guard isConfirmed("Do you really want to wipe out the DRBD meta data?") else {
            throw MetaFailure(1, "Operation cancelled.")
        }
        console.write("Wiping meta data...\n")
        try device.clear(at: found.layout.superblock * 512, count: UInt64(Superblock.blockBytes))
        try device.flush()
        forget()
        console.write("DRBD meta data block successfully wiped out.\n")
        return 0
    }
}
