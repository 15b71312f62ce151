import CLinux
import Glibc

/// A block device or regular file that holds metadata, held exclusively while it is open.
///
/// Reads and writes are in multiples of 512 bytes at such offsets, past the page cache where the file allows it.
/// Every failure is a `MetaFailure` that names the device.
final class MetaDevice {
    enum Access {
        /// Nobody else may have it open exclusively (O_EXCL, or a lock on a regular file).
        case exclusive
        /// Only these bytes are ours: slots of an indexed metadata device belong to different volumes.
        case range(UInt64, UInt64)
        /// Whatever others do. For reading only.
        case shared
    }

    /// Bytes of one transfer.
    private static let transferBytes = 1 << 20
    /// A second's worth.
    private static let lockAttempts = 20

    let path: String
    let size: UInt64
    private let descriptor: Int32
    private let buffer: UnsafeMutableRawPointer
    /// Where writes are told to instead of done.
    var dryRun: ((String) -> Void)?
    /// Told of each read and write.
    var trace: ((String) -> Void)?

    init(path: String, access: Access) throws(MetaFailure) {
        self.path = path
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw MetaFailure(20, "open(\(path)) failed: \(errorText(errno))")
        }
        let kind = status.st_mode & S_IFMT
        guard kind == S_IFBLK || kind == S_IFREG else { throw MetaFailure(20, "'\(path)' is not a block device!") }
        var flags = O_RDWR | O_CLOEXEC
        if case .shared = access { flags = O_RDONLY | O_CLOEXEC }
        if case .exclusive = access, kind == S_IFBLK { flags |= O_EXCL }
        var opened = open(path, flags | clinux_o_direct())
        if opened < 0 && errno == EINVAL { opened = open(path, flags) }
        guard opened >= 0 else {
            let number = errno
            throw MetaFailure(20, "open(\(path)) failed: \(errorText(number))\(number == EBUSY ? Self.busyHint : "")")
        }
        var bytes: UInt64 = 0
        if kind == S_IFBLK {
            guard clinux_block_size_bytes(opened, &bytes) == 0 else {
                let number = errno
                close(opened)
                throw MetaFailure(20, "\(path): size of the device cannot be read: \(errorText(number))")
            }
        } else {
            bytes = UInt64(clamping: status.st_size)
        }
        var lock: (start: UInt64, length: UInt64)?
        switch access {
        case .exclusive: if kind == S_IFREG { lock = (0, 0) }
        case .range(let start, let length): lock = (start, length)
        case .shared: break
        }
        if let lock {
            // Somebody who only looks is gone soon.
            var attempts = 0
            while clinux_lock_range(opened, Int64(clamping: lock.start), Int64(clamping: lock.length)) != 0 {
                let number = errno
                attempts += 1
                if attempts < Self.lockAttempts && (number == EAGAIN || number == EACCES || number == EINTR) {
                    usleep(50_000)
                    continue
                }
                close(opened)
                throw MetaFailure(
                    20, "\(path): \(errorText(number == EAGAIN || number == EACCES ? EBUSY : number))\(Self.busyHint)")
            }
        }
        var memory: UnsafeMutableRawPointer?
        guard posix_memalign(&memory, 4096, Self.transferBytes) == 0, let memory else {
            close(opened)
            throw MetaFailure(10, "\(path): no memory for a buffer")
        }
        buffer = memory
        descriptor = opened
        size = bytes
    }

    deinit {
        free(buffer)
        close(descriptor)
    }

    private static let busyHint = " (mounted, attached, or used by another program)"

    func read(at offset: UInt64, count: Int) throws(MetaFailure) -> [UInt8] {
        trace?("pread(\(path), \(count) bytes at \(offset))\n")
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            let wanted = min(Self.transferBytes, count - bytes.count)
            try transfer(wanted, at: offset + UInt64(bytes.count), isWrite: false)
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: buffer, count: wanted))
        }
        return bytes
    }

    func write(_ bytes: [UInt8], at offset: UInt64) throws(MetaFailure) {
        if let dryRun { return dryRun("would write \(bytes.count) bytes at \(offset) of \(path)\n") }
        trace?("pwrite(\(path), \(bytes.count) bytes at \(offset))\n")
        var done = 0
        while done < bytes.count {
            let wanted = min(Self.transferBytes, bytes.count - done)
            bytes.withUnsafeBytes { buffer.copyMemory(from: $0.baseAddress! + done, byteCount: wanted) }
            try transfer(wanted, at: offset + UInt64(done), isWrite: true)
            done += wanted
        }
    }

    /// Writes zeroes.
    func clear(at offset: UInt64, count: UInt64) throws(MetaFailure) {
        if let dryRun { return dryRun("would clear \(count) bytes at \(offset) of \(path)\n") }
        trace?("clear(\(path), \(count) bytes at \(offset))\n")
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: Self.transferBytes)
        var done: UInt64 = 0
        while done < count {
            let wanted = min(UInt64(Self.transferBytes), count - done)
            try transfer(Int(wanted), at: offset + done, isWrite: true)
            done += wanted
        }
    }

    /// Makes what was written survive a loss of power.
    func flush() throws(MetaFailure) {
        if dryRun != nil { return }
        guard fdatasync(descriptor) == 0 else { throw MetaFailure(10, "fsync(\(path)) failed: \(errorText(errno))") }
    }

    /// Moves `count` bytes between the buffer and the device.
    private func transfer(_ count: Int, at offset: UInt64, isWrite: Bool) throws(MetaFailure) {
        var done = 0
        while done < count {
            let position = off_t(clamping: offset + UInt64(done))
            let moved =
                isWrite
                ? pwrite(descriptor, buffer + done, count - done, position)
                : pread(descriptor, buffer + done, count - done, position)
            if moved > 0 {
                done += moved
                continue
            }
            let number = moved == 0 ? EIO : errno
            if number == EINTR { continue }
            if number == EINVAL && leavesDirectMode() { continue }
            throw MetaFailure(
                10, "\(isWrite ? "write" : "read") of \(path) at byte \(position) failed: \(errorText(number))")
        }
    }

    /// Some files accept O_DIRECT when opened and refuse it when used.
    private func leavesDirectMode() -> Bool {
        let flags = fcntl(descriptor, F_GETFL)
        guard flags >= 0, flags & clinux_o_direct() != 0 else { return false }
        return fcntl(descriptor, F_SETFL, flags & ~clinux_o_direct()) == 0
    }
}
