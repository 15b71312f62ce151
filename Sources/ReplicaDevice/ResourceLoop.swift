import CLinux
import CUring
import Glibc
import Logging
import ReplicaProto

/// What the loop of a resource needs to know before it starts.
package struct LoopConfiguration: Sendable {
    package var settings: DaemonSettings
    /// RUN: where the sockets and status files lie.
    package var runDirectory: String
    package var ring = RingConfiguration()
    package var buffers = BufferConfiguration()
    /// Locked memory, OOM score and the like: for the daemon, not for tests.
    package var hardens = false
    /// False: the daemon asked for it and was refused.
    package var memoryIsLocked = true
    /// Whose texts the status file shows.
    package var persona = Persona.v8411
    /// What the log names as the program that runs handlers.
    package var helper = "replctl"
    /// Has those who read /proc/drbd read our status file, if it is preloaded; for handlers.
    package var statusFileLibrary: String?
    package var stopping = StopLimits()
    /// Volumes get block devices of the kernel's nbd driver.
    package var kernelDevices = false
    /// What the program before us left in this process.
    package var takesOver: HandOver?
    package var log: Logger

    package init(settings: DaemonSettings, runDirectory: String, log: Logger) {
        self.settings = settings
        self.runDirectory = runDirectory
        self.log = log
    }
}

/// How long an end by signal may take. Service managers kill after 90 s (`TimeoutStopSec`), which we don't want to need.
package struct StopLimits: Sendable {
    /// For clients to take the answers to what they have asked; after that their connections are closed.
    package var clientSeconds = 10
    /// For all of it; after that the process ends as in a crash, which the activity log covers.
    package var seconds = 60

    package init() {}
}

/// The only loop of a resource: completions -> events -> core -> effects -> submissions, on one thread, with one ring.
///
/// A turn drains every completion; each becomes at most a few events, whose effects are carried out at once (which only
/// queues submissions and bytes). Then every connection and stream with something to say gets one send, and one system
/// call submits all of it and waits. After warm-up nothing is allocated per request.
package struct ResourceLoop: ~Copyable {
    var settings: DaemonSettings
    let runDirectory: String
    let log: Logger
    let persona: Persona
    let helper: String
    let statusFileLibrary: String?
    /// Minor numbers, from the settings and from `new-minor`.
    var minors: [(volume: VolumeNumber, minor: UInt32)]

    var core: Resource
    var effects = EffectQueue()
    /// Events that effects brought about; handed in before the next completion.
    private var queued: [Event] = []
    private var queuedHead = 0
    private var isInStep = false

    var ring: Ring
    var pool: BufferPool
    var counters = Counters()
    var now: Instant

    var store = BackingStore()
    var clients = ClientTable()
    var kernel: KernelDeviceTable
    var handOver: HandOverState
    var link = PeerConnection()
    var digests = BlockDigests()
    var control = ControlTable()
    var handlers = HandlerRuns()
    var status = StatusPublisher()
    var tracing = Tracing()
    let recorder: FlightRecorder
    let worker: Worker
    private let bringsInBuffers: Bool

    private let signalDescriptor: Int32
    private let signalRecord: UnsafeMutableRawPointer
    private let wakeRecord: UnsafeMutablePointer<UInt64>
    let stopLimits: StopLimits
    var isStopping = false
    /// Moments of the end by signal: clients are cut off; everything is.
    private var clientsEndAt = UInt64.max
    private var stopsAt = UInt64.max
    /// The end by signal did not come to an orderly one.
    var endsBadly = false
    /// Ends the loop once what has been answered is sent, or at this moment at the latest.
    var endsAt: UInt64?

    /// - Parameter signals: a descriptor as from `clinux_signal_descriptor`, or -1 to leave signals alone.
    package init(_ configuration: LoopConfiguration, signals: Int32 = -1) throws(SystemError) {
        let ring = try Ring(configuration.ring)
        var pool = try BufferPool(configuration.buffers)
        let worker = try Worker()
        // A daemon has its pages brought in beside its work (`bringInBuffers`): it takes as long as all the rest of a start.
        let bringsInBuffers = configuration.hardens && configuration.memoryIsLocked
        if !bringsInBuffers {
            do throws(SystemError) {
                try ring.registerBuffers(pool.region)
                pool.isRegistered = true
            } catch {
                if configuration.memoryIsLocked {
                    configuration.log.warning("buffers are not registered with the kernel (\(error))")
                }
            }
        }
        if !configuration.memoryIsLocked {
            // One cause, one warning: both ask for memory that stays.
            let limit = clinux_locked_memory_limit()
            let cause = limit == .max ? SystemError.text(ENOMEM) : "limit: \(limit / 1024) KiB"
            let what = pool.isRegistered ? "memory is not locked" : "memory is not locked, buffers are not registered"
            configuration.log.warning(
                "\(what) (\(cause)): under memory pressure writes may stall; raise the limit of locked memory")
        }
        let run = configuration.runDirectory
        let resource = configuration.settings.resource
        let taken = configuration.takesOver
        let clientListener =
            if let inherited = taken?.descriptor("clients") { inherited } else {
                try listenOnUnixSocket("\(run)/\(resource).nbd")
            }
        let controlListener =
            if let inherited = taken?.descriptor("control") { inherited } else {
                try listenOnUnixSocket("\(run)/\(resource).ctl")
            }
        settings = configuration.settings
        runDirectory = run
        log = configuration.log
        persona = configuration.persona
        helper = configuration.helper
        statusFileLibrary = configuration.statusFileLibrary
        stopLimits = configuration.stopping
        kernel = KernelDeviceTable(isWanted: configuration.kernelDevices)
        handOver = HandOverState(takesOver: taken, file: "\(run)/\(resource).hand-over", resource: resource)
        minors = configuration.settings.volumes.map { ($0.volume, $0.minor) }
        var generator = SystemRandomNumberGenerator()
        let seed = (generator.next(), generator.next(), generator.next(), generator.next())
        core = Resource(name: resource, seed: seed)
        recorder = FlightRecorder(resource: resource, seed: seed)
        self.ring = consume ring
        self.pool = consume pool
        self.worker = worker
        self.bringsInBuffers = bringsInBuffers
        now = Instant(nanoseconds: monotonicNanoseconds())
        signalDescriptor = signals
        signalRecord = .allocate(byteCount: 256, alignment: 8)
        wakeRecord = .allocate(capacity: 1)
        queued.reserveCapacity(1024)
        clients.listener = clientListener
        control.listener = controlListener
    }

    /// See there: 3 KiB, several times a request.
    private let inPlace = InPlace()

    deinit {
        signalRecord.deallocate()
        wakeRecord.deallocate()
    }

    // MARK: The loop

    /// Serves until `down` has been answered or a signal has ended the resource.
    /// - Returns: false if it had to end without leaving everything in order.
    @discardableResult
    package mutating func run() -> Bool {
        ring.start()
        if bringsInBuffers { bringInBuffers() }
        watchInvariants()
        // Who comes while the state of before is not there yet waits.
        if !handOver.isUnderWay {
            armClientAccept()
            armControlAccept()
        }
        armWake()
        armSignal()
        publishStatus()
        while !isFinished {
            turn()
        }
        if handOver.phase == .ready { return true }
        removePublishedStatus()
        if !endsBadly { removeKernelDevices() }
        unlink("\(runDirectory)/\(settings.resource).nbd")
        unlink("\(runDirectory)/\(settings.resource).ctl")
        if !endsBadly { unlink(handOver.file) }
        return !endsBadly
    }

    private var isFinished: Bool {
        if endsBadly || handOver.phase == .ready { return true }
        guard let endsAt else { return false }
        return now.nanoseconds >= endsAt || !control.hasOutput
    }

    private mutating func turn() {
        now = Instant(nanoseconds: monotonicNanoseconds())
        if let deadline = core.nextDeadline, deadline <= now { deliver(.clockAdvanced) }
        checkLinkDeadlines()
        checkHandlerDeadlines()
        continueKernelDevices()
        checkDiskTimeouts()
        continueHandOver()
        settle()
        resumeWaitingReads()
        resumeShortStreams()
        resumeClients()
        endClients()
        settle()
        continueStopping()
        publishStatusIfDue()
        lookAtNeighboursIfDue()
        settle()
        flushClients()
        flushLinks()
        flushControl()
        flushDisks()
        if isFinished { return }
        ring.submitAndWait(nanoseconds: hasUnfinishedWork ? 0 : waitingTime)
        counters.turns &+= 1
        now = Instant(nanoseconds: monotonicNanoseconds())
        let count = ring.readyCount
        for k in 0..<count {
            let (token, result, _) = ring[ready: k]
            complete(token, result)
            settle()
        }
        ring.consume(count)
        counters.completions &+= UInt64(count)
    }

    /// What was resumed or settled late in the turn may have come to more; then the wait is only a look.
    private var hasUnfinishedWork: Bool {
        queuedHead < queued.count || clients.anyEnding || clients.seenReturns != (clients.returns, pool.returns)
    }

    /// Nanoseconds until something is due; nil if nothing is.
    private var waitingTime: UInt64? {
        // By twos: `min` of many is an array, and this runs every turn.
        var earliest = min(core.nextDeadline?.nanoseconds ?? .max, link.nextDeadline)
        earliest = min(earliest, min(handlers.nextDeadline, status.nextDeadline))
        earliest = min(earliest, min(status.looksAt, kernel.nextDeadline))
        earliest = min(earliest, store.nextTimeoutCheck)
        earliest = min(earliest, min(endsAt ?? .max, nextStopDeadline))
        earliest = min(earliest, handOver.nextDeadline)
        guard earliest != .max else { return nil }
        let moment = monotonicNanoseconds()
        return earliest > moment ? earliest - moment : 0
    }

    @inline(__always)
    private mutating func complete(_ token: SubmissionToken, _ result: Int32) {
        switch token.kind {
        case .ignored: break
        case .disk: diskCompleted(token, result)
        case .metadata: metadataCompleted(token, result)
        case .clientReceive: clientReceived(token, result)
        case .clientSend: clientSent(token, result)
        case .linkReceive: linkReceived(token, result)
        case .linkSend: linkSent(token, result)
        case .clientAccept: clientAccepted(result)
        case .linkAccept: linkAccepted(token, result)
        case .linkConnect: linkConnected(token, result)
        case .linkMarker: linkMarkerRead(token, result)
        case .linkWatch: linkWatchEnded(token, result)
        case .controlAccept: controlAccepted(result)
        case .controlReceive: controlReceived(token, result)
        case .controlSend: controlSent(token, result)
        case .handler: handlerEnded(token)
        case .wake: takeWorkerResults()
        case .signal: takeSignal(result)
        }
    }

    // MARK: Events and effects

    /// Hands an event to the core and carries out what it asks for. Never from inside an effect: use `later` there.
    mutating func deliver(_ event: consuming Event) {
        invariant(!isInStep, "an effect hands in no event")
        isInStep = true
        // Out of `self` while they are carried out, so that each is read in place instead of copied.
        var batch = EffectQueue(reserving: 0)
        swap(&batch, &effects)
        recorder.note(event, at: now, format: link.format)
        core.handle(recorder.event, at: now, into: &batch)
        counters.events &+= 1
        batch.forEach { effect in
            recorder.exchange(&effect)
            carryOut(recorder.effect)
        }
        if control.hasNews { tellWatchers() }
        counters.effects &+= UInt64(batch.count)
        batch.removeAll()
        swap(&batch, &effects)
        isInStep = false
    }

    /// Hands an event in after the step that is being carried out.
    mutating func later(_ event: Event) { queued.append(event) }

    /// Hands in what `later` collected.
    mutating func settle() {
        while queuedHead < queued.count {
            let event = queued[queuedHead]
            queuedHead &+= 1
            deliver(event)
        }
        if queuedHead > 0 {
            queued.removeAll(keepingCapacity: true)
            queuedHead = 0
        }
    }

    private mutating func carryOut(_ effect: borrowing Effect) {
        switch copy effect {
        case .replyToClient(let request, let error, let data): replyToClient(request, error, data)
        case .releaseBuffer(let slot): pool.release(slot)
        case .readDisk(let tag, let volume, let range): readDisk(tag, volume, range)
        case .writeDisk(let tag, let volume, let range, let slot, let fua): writeDisk(tag, volume, range, slot, fua: fua)
        case .discardDisk(let tag, let volume, let range, let kind): discardDisk(tag, volume, range, kind)
        case .writePattern(let tag, let volume, let range, let slot, let bytes):
            writePattern(tag, volume, range, slot, bytes)
        case .flushDisk(let volume, let tag): flushDisk(volume, tag)
        case .compareDigest(let id, let algorithm, let data, let byteCount, let digest):
            compareDigest(id, algorithm, data, byteCount, digest)
        case .lookForZeroes(let id, let data, let byteCount): lookForZeroes(id, data, byteCount)
        case .send(let stream, let volume, let packet, let payload): sendPacket(stream, volume, packet, payload)
        case .sendAndReport(let request, let volume, let packet, let payload):
            sendPacket(.data, volume, packet, payload, report: request)
        case .sendPart(let volume, let packet, let payload, let offset, let report):
            sendPacket(.data, volume, packet, payload, offset: Int(offset), report: report)

        case .setExport(let volume, let state): setExport(volume, state)
        case .writeSuperblock(let volume, let superblock, let durable): writeSuperblock(volume, superblock, durable: durable)
        case .writeActivityLog(let volume, let block, let flushFirst, let durable):
            writeActivityLog(volume, block: block, flushFirst: flushFirst, durable: durable)
        case .writeBitmapPages(let volume, let first, let count): writeBitmapPages(volume, firstPage: first, count: count)
        case .initialiseActivityLog(let volume): initialiseActivityLog(volume)
        case .flushMetadata(let volume): flushMetadata(volume)
        case .clearSuperblock(let volume, let sector): clearSuperblock(volume, at: sector)
        case .measureDisk(let volume): measureDisk(volume)
        case .moveMetadata(let volume, let layout): moveMetadata(volume, layout)
        case .openDisk(let volume, let configuration): openDisk(volume, configuration)
        case .abandonDisk(let volume): abandonDisk(volume)
        case .closeDisk(let volume): closeDisk(volume)

        case .listen(let configuration): listen(configuration)
        case .stopListening: stopListening()
        case .connectToPeer(let configuration): connectToPeer(configuration)
        case .sendMarker(let socket, let kind): sendMarker(socket, kind)
        case .closeSocket(let socket): closeSocket(socket)
        case .useSocket(let socket, let kind): useSocket(socket, kind)
        case .setWireFormat(let format): link.format = format
        case .makeChallenge: later(.challengeMade(Authentication.challenge()))
        case .computeHMAC(let purpose, let algorithm, let key, let message):
            later(.hmacComputed(purpose, Authentication.hmac(algorithm: algorithm, key: key, message: message)))

        case .answerCommand(let command, let answer): answerCommand(command, answer)
        case .runHandler(let id, let name, let volume): runHandler(id, name, volume)
        case .log(let level, let volume, let text): logLine(level, volume, text)
        case .publishStatus:
            status.isWanted = true
            control.hasNews = true
        }
    }

    // MARK: Signals and the worker

    private mutating func armWake() {
        let token = SubmissionToken(.wake, index: 0)
        let entry = ring.entry(token)
        io_uring_prep_read(entry, worker.wakeDescriptor, wakeRecord, 8, 0)
        entry.pointee.user_data = token.rawValue
    }

    private mutating func takeWorkerResults() {
        for result in worker.takeResults() {
            switch result {
            case .diskOpened(let index, let generation, let volume, let outcome):
                diskOpened(index, generation, volume, outcome)
            case .kernelDevice(let volume, let outcome): kernelDeviceReported(volume, outcome)
            case .buffersBroughtIn: registerBuffers()
            case .stop: stop()
            }
            settle()
        }
        armWake()
    }

    /// Has all pages of the pool brought in on another thread; they are registered with the ring when they are there.
    private mutating func bringInBuffers() {
        let (address, count) = (UInt(bitPattern: pool.region.baseAddress), pool.region.count)
        worker.start {
            clinux_bring_in(UnsafeMutableRawPointer(bitPattern: address), count)
            return .buffersBroughtIn
        }
    }

    private mutating func registerBuffers() {
        do throws(SystemError) {
            try ring.registerBuffers(pool.region)
            pool.isRegistered = true
        } catch {
            log.warning("buffers are not registered with the kernel (\(error))")
        }
    }

    private mutating func armSignal() {
        guard signalDescriptor >= 0 else { return }
        let token = SubmissionToken(.signal, index: 0)
        let entry = ring.entry(token)
        io_uring_prep_read(entry, signalDescriptor, signalRecord, clinux_signal_record_size(), 0)
        entry.pointee.user_data = token.rawValue
    }

    private mutating func takeSignal(_ result: Int32) {
        if result > 0 {
            let number = Int32(clinux_signal_number(signalRecord))
            if number == SIGTERM || number == SIGINT {
                logLine(.notice, nil, "ending on signal \(number)")
                stop()
            }
        }
        armSignal()
    }

    // MARK: Stopping

    /// The orderly end: clients first, then everything that `down` does. Asked for again, clients are cut off at once.
    mutating func stop() {
        if isStopping {
            clientsEndAt = min(clientsEndAt, now.nanoseconds)
            return
        }
        isStopping = true
        clientsEndAt = now.nanoseconds &+ UInt64(stopLimits.clientSeconds) &* 1_000_000_000
        stopsAt = now.nanoseconds &+ UInt64(stopLimits.seconds) &* 1_000_000_000
        for index in 0..<ClientTable.connections where !clients.connections[index].isKernel { drainClient(index) }
        releaseKernelDevicesToStop()
    }

    private var nextStopDeadline: UInt64 { isStopping ? min(clientsEndAt, stopsAt) : .max }

    private mutating func continueStopping() {
        guard isStopping else { return }
        if now.nanoseconds >= stopsAt {
            return stopBadly("not in good order after \(stopLimits.seconds) s")
        }
        if now.nanoseconds >= clientsEndAt {
            clientsEndAt = .max
            var count = 0
            for index in 0..<ClientTable.connections
            where clients.connections[index].phase != .free && !clients.connections[index].isKernel {
                count += 1
                closeClient(index)
            }
            if count > 0 { logLine(.warning, nil, "\(count) clients do not take their answers and are cut off") }
            endClients()
            settle()
        }
        guard control.stopCommand == nil else { return }
        for index in 0..<ClientTable.connections where clients.connections[index].phase != .free { return }
        for device in kernel.list where device.index >= 0 || device.phase == .attaching { return }
        let id = control.newCommand()
        control.stopCommand = id
        deliver(.commandReceived(id, .down))
        settle()
    }

    /// Ends as in a crash: what may differ is in the activity log, and the next attach reads it.
    mutating func stopBadly(_ reason: String) {
        logLine(.error, nil, "\(reason): ending as in a crash")
        endsBadly = true
    }
}
