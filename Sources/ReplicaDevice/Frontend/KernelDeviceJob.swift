import CLinux
import Glibc

/// What is done outside the loop for the kernel's side of a volume's device: each of these may block.
struct KernelDeviceJob: Sendable {
    enum Outcome: Sendable {
        /// How it is before anything was asked. `index`: it still has a server that a daemon of this volume was.
        case found(index: Int?, KernelDeviceError?, notes: [String])
        case attached(index: Int, wasConnected: Bool, notes: [String])
        case notAttached(KernelDeviceError)
        case resized(KernelDeviceError?)
        case released
        case held(by: String)
        case notReleased(KernelDeviceError)
    }

    let nodes: DeviceNodes

    /// What the kernel knows the device by, from one daemon to the next.
    var identifier: String { "replica:\(nodes.resource)/\(nodes.volume)" }
    /// The minor number is the device's, too, if it is free.
    private var preferredIndex: Int { nodes.namedIndex ?? Int(nodes.minor) }

    // MARK: At the beginning

    /// Loads the driver if it can be, finds what an earlier daemon left behind, and makes the device nodes.
    func look() -> Outcome {
        do throws(KernelDeviceError) {
            _ = try driver()
            let index = NBDSysfs.index(of: identifier)
            return .found(index: index, nil, notes: makeNodes(index ?? preferredIndex))
        } catch {
            return .found(index: nil, error, notes: [])
        }
    }

    private func driver() throws(KernelDeviceError) -> NBDNetlink {
        do throws(KernelDeviceError) { return try NBDNetlink() } catch {
            guard case .noDriver = error else { throw error }
            guard geteuid() == 0 else { throw .notPermitted }
        }
        // Without arguments: what the administrator configured in modprobe.d holds.
        let code = KernelDeviceJob.run(["modprobe", "-q", "nbd"])
        do throws(KernelDeviceError) { return try NBDNetlink() } catch {
            guard case .noDriver = error else { throw error }
            throw .noDriver(code == 0 ? "modprobe nbd brought none" : "modprobe nbd found none")
        }
    }

    private func makeNodes(_ index: Int) -> [String] {
        guard let number = NBDSysfs.number(index) else { return ["no device numbers of nbd\(index)"] }
        return nodes.make(major: number.major, minor: number.minor)
    }

    // MARK: As Primary

    /// Gives the device a server at the other end of `descriptor`, which is closed.
    func attach(_ size: (bytes: UInt64, blockBytes: UInt32, flags: UInt16), descriptor: Int32) -> Outcome {
        defer { close(descriptor) }
        let settings = NBDNetlink.Settings(
            bytes: size.bytes, blockBytes: size.blockBytes, flags: size.flags, identifier: identifier)
        do throws(KernelDeviceError) {
            let netlink = try driver()
            var old = NBDSysfs.index(of: identifier)
            if let index = old {
                do throws(KernelDeviceError) {
                    try netlink.reconfigure(index, settings, descriptor: descriptor)
                } catch {
                    // One that was ended while it was mounted lasts until that is over, and takes nobody.
                    guard case .refused = error else { throw error }
                    old = nil
                }
            }
            let index: Int
            if let old { index = old } else { index = try connect(netlink, settings, descriptor) }
            NBDSysfs.setRequestLook(index)
            let notes = makeNodes(index)
            NBDSysfs.announce(index)
            return .attached(index: index, wasConnected: old != nil, notes: notes)
        } catch {
            return .notAttached(error)
        }
    }

    private func connect(
        _ netlink: borrowing NBDNetlink, _ settings: NBDNetlink.Settings, _ descriptor: Int32
    ) throws(KernelDeviceError) -> Int {
        // Who just looks at a device that has no server, as udev does, is in the way for a moment.
        for attempt in 0..<10 {
            do throws(KernelDeviceError) {
                return try netlink.connect(preferredIndex, settings, descriptor: descriptor)
            } catch {
                guard error == .busy else { throw error }
                if attempt == 9 || NBDSysfs.isConnected(preferredIndex) { break }
                usleep(50_000)
            }
        }
        if nodes.namedIndex != nil { throw .busy }
        return try netlink.connect(nil, settings, descriptor: descriptor)
    }

    func resize(_ index: Int, _ size: (bytes: UInt64, blockBytes: UInt32, flags: UInt16)) -> Outcome {
        let settings = NBDNetlink.Settings(
            bytes: size.bytes, blockBytes: size.blockBytes, flags: size.flags, identifier: identifier)
        do throws(KernelDeviceError) {
            try driver().reconfigure(index, settings, descriptor: -1)
            return .resized(nil)
        } catch {
            return .resized(error)
        }
    }

    // MARK: As Secondary

    /// Takes the device from the kernel, unless somebody has it open.
    ///
    /// It is claimed before that is looked at and until it is gone, so that no mount comes in between.
    func release(_ index: Int) -> Outcome {
        var holder = ""
        // udev and the like look at every device that changes, and go away.
        for attempt in 0..<5 {
            if attempt > 0 { usleep(100_000) }
            guard let number = NBDSysfs.number(index), NBDSysfs.isConnected(index) else { return .released }
            let claim = claimed(number)
            guard claim >= 0 else {
                guard errno == EBUSY else { return .notReleased(.refused("\(nodes.node): \(SystemError.text(errno))")) }
                holder = "a mount or another claim"
                continue
            }
            defer { close(claim) }
            if let user = DeviceUsers.find(major: number.major, minor: number.minor) {
                holder = user
                continue
            }
            do throws(KernelDeviceError) {
                try driver().disconnect(index)
                return .released
            } catch {
                return .notReleased(error)
            }
        }
        return .held(by: holder)
    }

    /// Takes the device from the kernel whoever uses it: what waits fails.
    func abandon(_ index: Int) -> Outcome {
        do throws(KernelDeviceError) {
            try driver().disconnect(index)
            return .released
        } catch {
            return .notReleased(error)
        }
    }

    /// An exclusive descriptor of the device, by a node that nobody else knows; -1 with errno set.
    private func claimed(_ number: (major: UInt32, minor: UInt32)) -> Int32 {
        let path = "\(nodes.root)/.replica-\(getpid())-\(nodes.minor)"
        unlink(path)
        guard clinux_make_block_node(path, 0o600, number.major, number.minor) == 0 else { return -1 }
        let descriptor = open(path, O_RDONLY | O_EXCL | O_CLOEXEC)
        let error = errno
        unlink(path)
        errno = error
        return descriptor
    }

    /// Runs a program to its end, found by PATH or in the usual places of the administrator's.
    /// - Returns: its exit code, -1 if it did not run.
    private static func run(_ words: [String]) -> Int32 {
        for directory in ["/sbin", "/usr/sbin", "/bin", "/usr/bin"] {
            let path = "\(directory)/\(words[0])"
            guard access(path, X_OK) == 0 else { continue }
            let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            defer { for string in arguments { free(string) } }
            var child: pid_t = 0
            guard posix_spawn(&child, path, nil, nil, arguments, environ) == 0 else { return -1 }
            var status: Int32 = 0
            while waitpid(child, &status, 0) < 0 && errno == EINTR {}
            return clinux_exit_code(status)
        }
        return -1
    }
}
