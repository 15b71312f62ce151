import CLinux
import Glibc
import ReplicaProto
import Synchronization

/// What a job outside the loop came to.
enum WorkerResult: Sendable {
    /// Opening the disk at that index of the store, if it is still of that generation.
    case diskOpened(index: Int, generation: UInt32, volume: VolumeNumber, DiskOpening.Outcome)
    /// Something was done, or could not be, for a volume's device in the kernel.
    case kernelDevice(VolumeNumber, KernelDeviceJob.Outcome)
    /// The pages of the buffer pool are there.
    case buffersBroughtIn
    /// Somebody outside wants the orderly end.
    case stop
}

/// Runs the few things that may block for long (opening disks, reading large bitmaps) on threads of their own and
/// wakes the loop with their results.
final class Worker: Sendable {
    let wakeDescriptor: Int32
    private let results = Mutex<[WorkerResult]>([])
    /// Jobs stall the loop instead: under valgrind a thread runs only while no other waits in io_uring_enter.
    private let isInline = getenv("REPLICA_NO_THREADS") != nil

    init() throws(SystemError) {
        wakeDescriptor = clinux_event_descriptor()
        if wakeDescriptor < 0 { throw SystemError.last("eventfd") }
    }

    deinit { close(wakeDescriptor) }

    func start(_ job: @escaping @Sendable () -> WorkerResult) {
        guard !isInline else { return post(job()) }
        let box = Unmanaged.passRetained(Job(worker: self, body: job))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                let job = Unmanaged<Job>.fromOpaque(argument.unsafelyUnwrapped).takeRetainedValue()
                job.worker.post(job.body())
                return nil
            }, box.toOpaque())
        if result == 0 {
            pthread_detach(thread)
        } else {
            // No thread to be had: better a stall than no answer.
            box.release()
            post(job())
        }
    }

    func post(_ result: WorkerResult) {
        results.withLock { $0.append(result) }
        var one: UInt64 = 1
        write(wakeDescriptor, &one, 8)
    }

    func takeResults() -> [WorkerResult] {
        results.withLock { list in
            let taken = list
            list.removeAll()
            return taken
        }
    }

    private final class Job: Sendable {
        let worker: Worker
        let body: @Sendable () -> WorkerResult
        init(worker: Worker, body: @escaping @Sendable () -> WorkerResult) {
            self.worker = worker
            self.body = body
        }
    }
}
