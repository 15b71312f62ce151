import CLinux
import Glibc
import ReplicaProto

/// The kernel's side of one volume's device: an nbd device whose server we are, at the other end of a socket pair.
struct KernelDevice {
    enum Phase {
        /// Nothing runs outside the loop.
        case idle
        case looking
        case attaching
        /// The kernel has our socket.
        case attached
        case resizing
        case releasing
    }

    var job: KernelDeviceJob
    var volume: VolumeNumber
    var phase = Phase.looking
    /// Of the nbd device while it is connected: ours, or that of a daemon before us.
    var index = -1
    /// In `ClientTable`; -1 without.
    var connection = -1
    /// As the kernel was told last.
    var bytes: UInt64 = 0
    /// The core counts it as an open device.
    var isCounted = false
    /// When the kernel gets a socket if this node is Primary: 0 = at once; `UInt64.max` = when something has changed.
    var attachesAt: UInt64 = 0
    var attachDelay: UInt64 = 0
    var attachedAt: UInt64 = 0
    var resumption: Resumption?

    /// An earlier daemon was Primary when it died, and the kernel holds the device for whoever comes after it.
    struct Resumption {
        /// When there was a disk for the first time.
        var ready: UInt64?
        var nextTry: UInt64
        var delay: UInt64 = 250_000_000
        var isAsking = false
    }
}

/// All kernel devices of a resource. Rare events only: what happens per request is in `NBDConnection`.
struct KernelDeviceTable {
    /// Volumes get kernel devices. Not in tests, and not where several nodes share a machine.
    let isWanted: Bool
    var list: [KernelDevice] = []
    /// When something is to be done that no event leads to.
    var nextDeadline = UInt64.max
    /// It has been said that there is no driver.
    var hasWarned = false
    /// Commands whose good answer waits until the device is there, or has its new size.
    var attachingCommands: [(id: CommandID, volume: VolumeNumber)] = []
    var heldAnswers: [(id: CommandID, answer: CommandAnswer, volume: VolumeNumber)] = []
    /// Commands that wait until the device has been taken from the kernel, or is known to be held open.
    var heldCommands: [(id: CommandID, command: ControlCommand)] = []
    /// Commands that end a volume.
    var deletions: [(id: CommandID, volume: VolumeNumber)] = []
    /// Commands that were held and have been handed in.
    var demotions: [CommandID] = []
    /// What the metadata told when the disk was attached; nil: that nothing can go on.
    var attachments: [(volume: VolumeNumber, resumption: DeviceResumption?)] = []
    /// Commands of our own, to be Primary again.
    var resumptions: [(id: CommandID, volume: VolumeNumber)] = []

    func index(of volume: VolumeNumber) -> Int? { list.firstIndex { $0.volume == volume } }
}

extension ResourceLoop {
    // MARK: Volumes come and go

    /// From `new-minor` on the volume has its device node, and its device if a daemon before us left it in use.
    mutating func addKernelDevice(_ volume: VolumeNumber, _ minor: UInt32) {
        guard kernel.isWanted, kernel.index(of: volume) == nil else { return }
        let configured = settings.volumes.first { $0.volume == volume }
        let device = configured?.device ?? "/dev/drbd\(minor)"
        guard !device.hasPrefix("unix:") else { return linkSocket(String(device.dropFirst(5))) }
        let nodes = DeviceNodes(
            resource: settings.resource, volume: volume.value, minor: minor, device: device, disk: configured?.disk ?? "")
        let job = KernelDeviceJob(nodes: nodes)
        kernel.list.append(KernelDevice(job: job, volume: volume))
        startKernelJob(volume) { job.look() }
    }

    /// `device unix:/PATH`: the socket under the name that was asked for.
    private mutating func linkSocket(_ path: String) {
        let target = "\(runDirectory)/\(settings.resource).nbd"
        var buffer = [UInt8](repeating: 0, count: 4096)
        if readlink(path, &buffer, buffer.count) >= 0 { unlink(path) }
        if symlink(target, path) != 0 {
            logLine(.warning, nil, "\(path): \(SystemError.text(errno)); the device is served at \(target)")
        }
    }

    /// The volume is gone, or the process ends in good order: so do the names of its device.
    mutating func removeKernelDevice(_ volume: VolumeNumber) {
        guard let k = kernel.index(of: volume), kernel.list[k].index < 0 else { return }
        kernel.list[k].job.nodes.remove()
        kernel.list.remove(at: k)
    }

    mutating func removeKernelDevices() {
        for volume in kernel.list.map(\.volume) { removeKernelDevice(volume) }
        for volume in settings.volumes where kernel.isWanted && volume.device.hasPrefix("unix:") {
            let path = String(volume.device.dropFirst(5))
            var buffer = [UInt8](repeating: 0, count: 4096)
            if readlink(path, &buffer, buffer.count) >= 0 { unlink(path) }
        }
    }

    mutating func startKernelJob(_ volume: VolumeNumber, _ work: @escaping @Sendable () -> KernelDeviceJob.Outcome) {
        worker.start { .kernelDevice(volume, work()) }
    }

    mutating func kernelDeviceReported(_ volume: VolumeNumber, _ outcome: KernelDeviceJob.Outcome) {
        guard let k = kernel.index(of: volume) else { return }
        switch outcome {
        case .found(let index, let error, let notes):
            kernel.list[k].phase = .idle
            warnOfKernelDevice(volume, error, notes)
            if let index, handOver.restores(volume) {
                kernel.list[k].index = index
            } else if let index {
                kernel.list[k].index = index
                kernel.list[k].resumption = KernelDevice.Resumption(nextTry: now.nanoseconds)
                logLine(.notice, volume, "nbd\(index) is still in use; its requests wait until this node is Primary again")
            }
        case .attached(let index, let wasConnected, let notes):
            kernel.list[k].phase = .attached
            kernel.list[k].index = index
            kernel.list[k].attachedAt = now.nanoseconds
            kernel.list[k].resumption = nil
            warnOfKernelDevice(volume, nil, notes)
            logLine(
                .notice, volume,
                "\(kernel.list[k].job.nodes.node) is nbd\(index)\(wasConnected ? ", which goes on" : "")")
            if !kernel.list[k].isCounted {
                kernel.list[k].isCounted = true
                deliver(.exportOpened(volume))
            }
            if kernel.list[k].connection < 0 { kernelConnectionEnded(volume) }
            if isStopping || isHeld(volume) { releaseKernelDevice(k) }
        case .notAttached(let error):
            kernel.list[k].phase = .idle
            if kernel.list[k].connection >= 0 { closeClient(kernel.list[k].connection) }
            warnOfKernelDevice(volume, error, [])
            // One that has waiting requests is not given up.
            if kernel.list[k].index >= 0 { attachLater(k) }
        case .resized(let error):
            // The connection may have ended meanwhile; then the next one brings the size along.
            guard kernel.list[k].phase == .resizing else { break }
            kernel.list[k].phase = .attached
            if isStopping || isHeld(volume) { releaseKernelDevice(k) }
            if let error { logLine(.error, volume, "nbd\(kernel.list[k].index) keeps its size: \(error.text)") }
        case .released:
            kernel.list[k].phase = .idle
            kernel.list[k].index = -1
            kernel.list[k].resumption = nil
            kernel.list[k].attachesAt = .max
            if kernel.list[k].isCounted {
                kernel.list[k].isCounted = false
                deliver(.exportClosed(volume))
            }
        case .held(let holder):
            kernel.list[k].phase = kernel.list[k].connection >= 0 ? .attached : .idle
            logLine(.notice, volume, "\(kernel.list[k].job.nodes.node) is held open by \(holder)")
            if isStopping { return stopWithDevicesInUse() }
            if kernel.list[k].phase == .idle, exportIsPrimary(volume) { attachLater(k) }
        case .notReleased(let error):
            kernel.list[k].phase = kernel.list[k].connection >= 0 ? .attached : .idle
            logLine(.error, volume, error.text)
            if isStopping { return stopWithDevicesInUse() }
        }
        followKernelExport(volume)
        answerHeld(volume)
        continueHeldCommands()
        setKernelDeadline()
    }

    mutating func warnOfKernelDevice(_ volume: VolumeNumber, _ error: KernelDeviceError?, _ notes: [String]) {
        for note in notes { logLine(.warning, volume, note) }
        guard let error else { return }
        switch error {
        case .noDriver, .notPermitted:
            guard !kernel.hasWarned else { return }
            kernel.hasWarned = true
            logLine(
                .warning, nil,
                "no block device: \(error.text); clients of \(runDirectory)/\(settings.resource).nbd are served as ever")
        case .busy, .refused: logLine(.error, volume, "no block device: \(error.text)")
        }
    }

    // MARK: Primary

    func exportIsPrimary(_ volume: VolumeNumber) -> Bool {
        for export in clients.exports where export.volume == volume {
            return export.state.isPrimary && export.state.sectors > 0
        }
        return false
    }

    /// The core has told of an export.
    mutating func kernelExportChanged(_ volume: VolumeNumber) {
        guard let k = kernel.index(of: volume) else { return }
        if kernel.list[k].attachesAt == .max { kernel.list[k].attachesAt = 0 }
        followKernelExport(volume)
    }

    /// The export has appeared or has another size: so has the device.
    mutating func followKernelExport(_ volume: VolumeNumber) {
        guard let k = kernel.index(of: volume), exportIsPrimary(volume),
            let export = clients.exports.first(where: { $0.volume == volume })?.state
        else { return }
        switch kernel.list[k].phase {
        case .idle:
            guard !isStopping, !isHeld(volume), kernel.list[k].attachesAt <= now.nanoseconds else { return }
            attach(k, export)
        case .attached:
            guard kernel.list[k].bytes != export.sectors * Sector.bytes else { return }
            kernel.list[k].phase = .resizing
            kernel.list[k].bytes = export.sectors * Sector.bytes
            let job = kernel.list[k].job
            let index = kernel.list[k].index
            let size = (export.sectors * Sector.bytes, export.logicalBlockSize, kernelFlags(volume).rawValue)
            startKernelJob(volume) { job.resize(index, size) }
        case .looking, .attaching, .resizing, .releasing: break
        }
    }

    private mutating func attach(_ k: Int, _ export: ExportState) {
        let volume = kernel.list[k].volume
        if adoptKernelDevice(k, export) { return }
        let job = kernel.list[k].job
        var ends: (Int32, Int32) = (-1, -1)
        let made = withUnsafeMutableBytes(of: &ends) {
            clinux_socket_pair($0.baseAddress?.assumingMemoryBound(to: Int32.self))
        }
        let flags = kernelFlags(volume)
        guard made == 0 else { return logLine(.error, volume, "no block device: \(SystemError.last("socketpair"))") }
        let (ours, kernels) = ends
        let offer = NBDExport(
            name: "", size: export.sectors * Sector.bytes, flags: flags, minimumBlock: export.logicalBlockSize)
        guard let connection = serveKernel(ours, volume, offer) else {
            close(ours)
            close(kernels)
            return logLine(.error, volume, "no block device: too many clients")
        }
        kernel.list[k].phase = .attaching
        kernel.list[k].connection = connection
        kernel.list[k].bytes = export.sectors * Sector.bytes
        kernel.list[k].attachesAt = .max
        let size = (export.sectors * Sector.bytes, export.logicalBlockSize, flags.rawValue)
        startKernelJob(volume) { job.attach(size, descriptor: kernels) }
    }

    /// What the backing device can do. One that is on the peer alone may be able to do anything.
    func kernelFlags(_ volume: VolumeNumber) -> NBDTransmissionFlags {
        var flags: NBDTransmissionFlags = [.hasFlags, .flush, .fua, .writeZeroes, .multiConnection]
        guard let disk = store.index(of: volume) else { return flags.union(.trim) }
        if store.disks[disk].pointee.canDiscard { flags.insert(.trim) }
        if store.disks[disk].pointee.isRotational { flags.insert(.rotational) }
        return flags
    }

    /// The kernel has closed its end: it was told to, or it did not take a new socket while the one before seemed to live.
    mutating func kernelConnectionEnded(_ volume: VolumeNumber) {
        guard let k = kernel.index(of: volume) else { return }
        kernel.list[k].connection = -1
        switch kernel.list[k].phase {
        case .attached, .resizing:
            kernel.list[k].phase = .idle
            if now.nanoseconds - kernel.list[k].attachedAt > 5_000_000_000 { kernel.list[k].attachDelay = 0 }
            attachLater(k)
            setKernelDeadline()
        case .idle, .looking, .attaching, .releasing: break
        }
    }

    mutating func attachLater(_ k: Int) {
        kernel.list[k].attachDelay = min(max(kernel.list[k].attachDelay * 2, 50_000_000), 5_000_000_000)
        kernel.list[k].attachesAt = now.nanoseconds &+ kernel.list[k].attachDelay
    }

    // MARK: Time

    mutating func setKernelDeadline() {
        var earliest = UInt64.max
        for device in kernel.list {
            if device.phase == .idle, exportIsPrimary(device.volume) { earliest = min(earliest, device.attachesAt) }
            if let resumption = device.resumption, !resumption.isAsking { earliest = min(earliest, resumption.nextTry) }
        }
        kernel.nextDeadline = earliest
    }

    mutating func continueKernelDevices() {
        guard now.nanoseconds >= kernel.nextDeadline else { return }
        for volume in kernel.list.map(\.volume) {
            resumeIfReady(volume)
            followKernelExport(volume)
        }
        setKernelDeadline()
    }
}
