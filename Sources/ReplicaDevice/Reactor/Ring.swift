import CLinux
import CUring
import Glibc
import ReplicaProto

/// Shape of the ring. The defaults are the measured ones; flags that a kernel does not know are dropped.
package struct RingConfiguration: Sendable {
    package var entries: UInt32 = 4096
    package var completionEntries: UInt32 = 16384
    package var singleIssuer = true
    /// Completions are finished by this thread when it waits, not by interrupting it: a fifth less CPU at depth 1.
    package var deferTaskRun = true

    package init() {}
}

/// The one io_uring of a resource: submissions are collected during a turn and leave with the wait that ends it.
struct Ring: ~Copyable {
    private let ring: UnsafeMutablePointer<io_uring>
    /// Turns and system calls, for `Counters`.
    private(set) var enters: UInt64 = 0

    init(_ configuration: RingConfiguration) throws(SystemError) {
        let memory = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        memory.initialize(to: io_uring())
        // Disabled until `start`: the thread that starts it is the single issuer.
        let basic = UInt32(IORING_SETUP_CQSIZE) | UInt32(IORING_SETUP_CLAMP) | UInt32(IORING_SETUP_R_DISABLED)
        var wanted = basic | UInt32(IORING_SETUP_SUBMIT_ALL)
        if configuration.singleIssuer { wanted |= UInt32(IORING_SETUP_SINGLE_ISSUER) }
        if configuration.deferTaskRun { wanted |= UInt32(IORING_SETUP_SINGLE_ISSUER) | UInt32(IORING_SETUP_DEFER_TASKRUN) }
        // The kernel may count queues as locked memory: where the limit is low, shorter ones have to do.
        var entries = configuration.entries
        var completionEntries = configuration.completionEntries
        var result: Int32 = -ENOMEM
        while result == -ENOMEM, entries >= 32 {
            result = -EINVAL
            for flags in [wanted, basic] where result == -EINVAL {
                var parameters = io_uring_params()
                parameters.flags = flags
                parameters.cq_entries = completionEntries
                result = io_uring_queue_init_params(entries, memory, &parameters)
            }
            entries /= 4
            completionEntries /= 4
        }
        guard result == 0 else {
            memory.deallocate()
            throw SystemError("io_uring_setup", -result)
        }
        ring = memory
    }

    deinit {
        io_uring_queue_exit(ring)
        ring.deallocate()
    }

    /// Makes the calling thread the one that submits and waits.
    func start() {
        let result = clinux_enable_ring(ring.pointee.ring_fd)
        invariant(result == 0, "a ring is started once (errno \(errno))")
    }

    /// Registers one region for fixed reads and writes (buffer index 0).
    func registerBuffers(_ region: UnsafeMutableRawBufferPointer) throws(SystemError) {
        var vector = iovec(iov_base: region.baseAddress, iov_len: region.count)
        let result = io_uring_register_buffers(ring, &vector, 1)
        guard result == 0 else { throw SystemError("io_uring_register_buffers", -result) }
    }

    /// A cleared submission entry. Submits what is collected if the queue is full.
    @inline(__always)
    mutating func entry(_ token: SubmissionToken) -> UnsafeMutablePointer<io_uring_sqe> {
        var found = io_uring_get_sqe(ring)
        while found == nil {
            enters &+= 1
            let result = io_uring_submit(ring)
            invariant(
                result >= 0 || result == -EAGAIN || result == -EBUSY || result == -EINTR,
                "submission is refused only for a while (\(result))")
            found = io_uring_get_sqe(ring)
        }
        let entry = found.unsafelyUnwrapped
        io_uring_prep_nop(entry)
        entry.pointee.user_data = token.rawValue
        return entry
    }

    /// Submits everything, and waits for a completion or until `nanoseconds` have passed (nil: for ever, 0: not).
    mutating func submitAndWait(nanoseconds: UInt64?) {
        enters &+= 1
        var result: Int32
        if let nanoseconds {
            if nanoseconds == 0 {
                result = io_uring_submit_and_get_events(ring)
            } else {
                var completion: UnsafeMutablePointer<io_uring_cqe>?
                var time = __kernel_timespec(
                    tv_sec: Int64(nanoseconds / 1_000_000_000), tv_nsec: Int64(nanoseconds % 1_000_000_000))
                result = io_uring_submit_and_wait_timeout(ring, &completion, 1, &time, nil)
            }
        } else {
            result = io_uring_submit_and_wait(ring, 1)
        }
        invariant(
            result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY,
            "the wait of the ring works (\(result))")
    }

    /// Completions that wait now.
    @inline(__always) var readyCount: Int { Int(io_uring_cq_ready(ring)) }
    /// The k-th of them.
    @inline(__always) subscript(ready k: Int) -> (token: SubmissionToken, result: Int32, flags: UInt32) {
        let completion = ring.pointee.cq.cqes + Int((ring.pointee.cq.khead.pointee &+ UInt32(k)) & ring.pointee.cq.ring_mask)
        return (SubmissionToken(rawValue: completion.pointee.user_data), completion.pointee.res, completion.pointee.flags)
    }
    /// Gives the first `count` back to the kernel.
    @inline(__always) func consume(_ count: Int) { io_uring_cq_advance(ring, UInt32(count)) }

    /// Asks for the end of an operation; it still completes by itself.
    mutating func cancel(_ token: SubmissionToken) {
        let cancellation = entry(SubmissionToken(.ignored, index: 0))
        io_uring_prep_cancel64(cancellation, token.rawValue, 0)
        cancellation.pointee.user_data = SubmissionToken(.ignored, index: 0).rawValue
    }
}
