import CLinux
import CUring
import Glibc
import ReplicaProto

/// RWF_DSYNC: a write that is durable when it completes.
let writeDurably: Int32 = 2

/// All attached disks of a resource and their operations in flight.
struct BackingStore: ~Copyable {
    /// Volumes attached at a time.
    static let disks = 128

    var disks = Slab<BackingDisk>(capacity: BackingStore.disks, empty: BackingDisk())
    /// One for every client request, peer request and flush that can be under way at once.
    var operations = Slab<DiskOperation>(
        capacity: 2 * (Limits.clientRequests + Limits.peerRequests) + Limits.openEpochs, empty: DiskOperation())
    /// Operations to submit at the end of the turn.
    let due: UnsafeMutablePointer<Int32>
    var dueCount = 0
    /// Reads that wait for a buffer, oldest first.
    var waitingFirst: Int32 = -1
    var waitingLast: Int32 = -1
    /// 1 MiB of zeroes to write where neither holes nor zero ranges exist.
    let zeroes: UnsafeMutableRawPointer
    static let zeroBytes = 1_048_576
    /// Index of the disk of each volume, -1 without; sorted by nothing, a resource has few volumes.
    private(set) var attached: [(volume: VolumeNumber, disk: Int)] = []
    /// When to look for operations that take too long.
    var nextTimeoutCheck = UInt64.max

    init() {
        due = .allocate(capacity: operations.capacity)
        zeroes = .allocate(byteCount: Self.zeroBytes, alignment: 4096)
        zeroes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.zeroBytes)
    }

    deinit {
        for (_, index) in attached {
            closeDescriptors(of: disks[index].pointee)
            disks[index].pointee.metadata.staging?.deallocate()
        }
        zeroes.deallocate()
        due.deallocate()
    }

    @inline(__always)
    func index(of volume: VolumeNumber) -> Int? {
        for entry in attached where entry.volume == volume { return entry.disk }
        return nil
    }

    mutating func add(_ volume: VolumeNumber) -> Int? {
        guard index(of: volume) == nil, let index = disks.take(BackingDisk()) else { return nil }
        disks[index].pointee.volume = volume
        disks[index].pointee.phase = .opening
        attached.append((volume, index))
        return index
    }

    mutating func remove(_ index: Int) {
        disks[index].pointee.metadata.staging?.deallocate()
        disks[index].pointee = BackingDisk()
        attached.removeAll { $0.disk == index }
        disks.give(index)
    }

    var isEmpty: Bool { attached.isEmpty }
}

extension ResourceLoop {
    // MARK: Effects

    mutating func readDisk(_ tag: DiskTag, _ volume: VolumeNumber, _ range: SectorRange) {
        guard let operation = newOperation(.read, tag, volume, range) else {
            later(.diskReadFinished(tag, nil, DiskError(ENODEV)))
            return
        }
        // Strictly in turn: a read that needs a large buffer is not overtaken for ever by small ones.
        if store.waitingFirst >= 0 || !startRead(operation) { waitForBuffer(operation) }
    }

    mutating func writeDisk(_ tag: DiskTag, _ volume: VolumeNumber, _ range: SectorRange, _ slot: BufferSlot, fua: Bool) {
        guard let operation = newOperation(.write, tag, volume, range) else {
            later(.diskWriteFinished(tag, DiskError(ENODEV)))
            return
        }
        pool.lend(slot)
        store.operations[operation].pointee.slot = slot
        store.operations[operation].pointee.fua = fua
        submit(operation)
    }

    mutating func discardDisk(_ tag: DiskTag, _ volume: VolumeNumber, _ range: SectorRange, _ kind: DiscardKind) {
        guard
            let operation = newOperation(kind == .zeroNoUnmap ? .zeroRange : .punchHole, tag, volume, range)
        else {
            later(.diskWriteFinished(tag, DiskError(ENODEV)))
            return
        }
        submit(operation)
    }

    /// No peer of today sends what leads to this, so it may allocate.
    mutating func writePattern(
        _ tag: DiskTag, _ volume: VolumeNumber, _ range: SectorRange, _ slot: BufferSlot, _ patternBytes: UInt32
    ) {
        guard let operation = newOperation(.writePattern, tag, volume, range) else {
            later(.diskWriteFinished(tag, DiskError(ENODEV)))
            return
        }
        let length = min(Int(range.byteCount), BackingStore.zeroBytes)
        let block = Int(patternBytes)
        invariant(block > 0 && length % block == 0, "a pattern is repeated as a whole")
        let memory = UnsafeMutableRawPointer.allocate(byteCount: length, alignment: 4096)
        for k in 0..<length / block { (memory + k * block).copyMemory(from: pool.address(of: slot), byteCount: block) }
        store.operations[operation].pointee.pattern = memory
        submit(operation)
    }

    mutating func flushDisk(_ volume: VolumeNumber, _ tag: FlushTag) {
        guard
            let operation = newOperation(
                .flush, .client(RequestID(index: 0, generation: 0)), volume, SectorRange(0, 0))
        else {
            later(.diskFlushFinished(volume, tag, DiskError(ENODEV)))
            return
        }
        store.operations[operation].pointee.flush = tag
        submit(operation)
    }

    // MARK: Submission

    private mutating func newOperation(
        _ kind: DiskOperation.Kind, _ tag: DiskTag, _ volume: VolumeNumber, _ range: SectorRange
    ) -> Int? {
        guard let disk = store.index(of: volume), store.disks[disk].pointee.phase == .open else { return nil }
        var record = DiskOperation()
        record.kind = kind
        record.disk = Int32(disk)
        record.tag = tag
        record.offset = range.start.value &* Sector.bytes
        record.length = range.byteCount
        record.isRunning = true
        record.startedAt = now.nanoseconds
        guard let index = store.operations.take(record) else {
            invariant(false, "disk operations are bounded by the core's limits")
            return nil
        }
        store.disks[disk].pointee.inFlight &+= 1
        return index
    }

    /// Leases the buffer of a read and submits it. False: no buffer now.
    private mutating func startRead(_ index: Int) -> Bool {
        let operation = store.operations[index]
        let slot: BufferSlot?
        switch operation.pointee.tag {
        case .client(let request): slot = leaseForClientRead(request, bytes: Int(operation.pointee.length))
        case .peer: slot = pool.leaseForPeer(bytes: Int(operation.pointee.length), use: .read)
        }
        guard let slot else { return false }
        operation.pointee.slot = slot
        submit(index)
        return true
    }

    private mutating func waitForBuffer(_ index: Int) {
        store.operations[index].pointee.next = -1
        if store.waitingLast >= 0 {
            store.operations[Int(store.waitingLast)].pointee.next = Int32(index)
        } else {
            store.waitingFirst = Int32(index)
        }
        store.waitingLast = Int32(index)
    }

    /// Starts reads that waited, once buffers came back.
    mutating func resumeWaitingReads() {
        while store.waitingFirst >= 0 {
            let index = Int(store.waitingFirst)
            guard startRead(index) else { return }
            store.waitingFirst = store.operations[index].pointee.next
            if store.waitingFirst < 0 { store.waitingLast = -1 }
        }
    }

    /// The next piece of an operation goes down at the end of the turn.
    private mutating func submit(_ index: Int) {
        store.due[store.dueCount] = Int32(index)
        store.dueCount &+= 1
    }

    /// Fills in what the turn has come to. Behind the turn's sends: the peer works on the other copy meanwhile.
    mutating func flushDisks() {
        for k in 0..<store.dueCount { fillIn(Int(store.due[k])) }
        store.dueCount = 0
    }

    private mutating func fillIn(_ index: Int) {
        let operation = store.operations[index]
        let disk = store.disks[Int(operation.pointee.disk)]
        let token = SubmissionToken(.disk, index: index, generation: store.operations.generation(index))
        let entry = ring.entry(token)
        let offset = operation.pointee.offset &+ UInt64(operation.pointee.done)
        let length = operation.pointee.length &- operation.pointee.done
        switch operation.pointee.kind {
        case .read, .write:
            let address = pool.address(of: operation.pointee.slot) + Int(operation.pointee.done)
            let mask = disk.pointee.directAlignment &- 1
            let isDirect = (Int(truncatingIfNeeded: offset) | Int(length)) & mask == 0
            let descriptor = isDirect ? disk.pointee.dataDescriptor : disk.pointee.bufferedDescriptor
            if operation.pointee.kind == .read {
                if pool.isRegistered && isDirect {
                    io_uring_prep_read_fixed(entry, descriptor, address, length, offset, 0)
                } else {
                    io_uring_prep_read(entry, descriptor, address, length, offset)
                }
            } else {
                if pool.isRegistered && isDirect {
                    io_uring_prep_write_fixed(entry, descriptor, address, length, offset, 0)
                } else {
                    io_uring_prep_write(entry, descriptor, address, length, offset)
                }
                // Through the page cache nothing may linger there: the next direct read or flush must find it on disk.
                if operation.pointee.fua || !isDirect { entry.pointee.rw_flags = numericCast(writeDurably) }
            }
        case .flush:
            io_uring_prep_fsync(entry, disk.pointee.dataDescriptor, UInt32(IORING_FSYNC_DATASYNC))
        case .punchHole:
            io_uring_prep_fallocate(
                entry, disk.pointee.dataDescriptor, clinux_fallocate_punch_hole(), off_t(offset), off_t(length))
        case .zeroRange:
            io_uring_prep_fallocate(
                entry, disk.pointee.dataDescriptor, clinux_fallocate_zero_range(), off_t(offset), off_t(length))
        case .writeZeroes, .writePattern:
            let piece = min(length, UInt32(BackingStore.zeroBytes))
            let isDirect = (Int(truncatingIfNeeded: offset) | Int(piece)) & (disk.pointee.directAlignment &- 1) == 0
            let descriptor = isDirect ? disk.pointee.dataDescriptor : disk.pointee.bufferedDescriptor
            io_uring_prep_write(entry, descriptor, operation.pointee.pattern ?? store.zeroes, piece, offset)
            if !isDirect { entry.pointee.rw_flags = numericCast(writeDurably) }
        }
        entry.pointee.user_data = token.rawValue
        counters.diskOperations &+= 1
    }

    // MARK: Completion

    mutating func diskCompleted(_ token: SubmissionToken, _ result: Int32) {
        let index = token.index
        guard token.isOf(generation: store.operations.generation(index)) else { return }
        let operation = store.operations[index]
        if operation.pointee.isAbandoned { return finish(index, ETIMEDOUT) }
        if result == -EINTR || result == -EAGAIN {
            submit(index)
            return
        }
        switch operation.pointee.kind {
        case .read, .write:
            if result > 0 {
                operation.pointee.done &+= UInt32(result)
                if operation.pointee.done < operation.pointee.length {
                    submit(index)
                    return
                }
            }
            // A transfer that ends early: the device is smaller than it was when it was opened.
            finish(index, result > 0 ? 0 : result == 0 ? EIO : -result)
        case .flush:
            finish(index, -min(result, 0))
        case .punchHole, .zeroRange:
            if result == -EOPNOTSUPP || result == -EINVAL || result == -ENOSYS {
                operation.pointee.kind = operation.pointee.kind == .punchHole ? .zeroRange : .writeZeroes
                submit(index)
                return
            }
            finish(index, -min(result, 0))
        case .writeZeroes, .writePattern:
            if result > 0 {
                operation.pointee.done &+= UInt32(result)
                if operation.pointee.done < operation.pointee.length {
                    submit(index)
                    return
                }
            }
            finish(index, result > 0 ? 0 : result == 0 ? EIO : -result)
        }
    }

    private mutating func finish(_ index: Int, _ code: Int32) {
        let operation = store.operations[index].pointee
        let disk = store.disks[Int(operation.disk)]
        store.operations[index].pointee.isRunning = false
        store.operations.give(index)
        disk.pointee.inFlight &-= 1
        let error = code == 0 ? nil : DiskError(code)
        switch operation.kind {
        case .read:
            if error != nil { pool.release(operation.slot) }
        case .write: pool.release(operation.slot)
        case .punchHole, .zeroRange, .writeZeroes, .writePattern: operation.pattern?.deallocate()
        case .flush: break
        }
        if !operation.isAbandoned { deliver(Self.ending(operation, of: disk.pointee.volume, error)) }
        closeIfIdle(Int(operation.disk))
    }

    private static func ending(_ operation: DiskOperation, of volume: VolumeNumber, _ error: DiskError?) -> Event {
        switch operation.kind {
        case .read: .diskReadFinished(operation.tag, error == nil ? operation.slot : nil, error)
        case .write, .punchHole, .zeroRange, .writeZeroes, .writePattern: .diskWriteFinished(operation.tag, error)
        case .flush: .diskFlushFinished(volume, operation.flush, error)
        }
    }

    // MARK: Disks that do not answer

    /// Tells the core of disks with an operation that takes longer than `disk-timeout`.
    mutating func checkDiskTimeouts() {
        guard now.nanoseconds >= store.nextTimeoutCheck else { return }
        var next = UInt64.max
        for (volume, index) in store.attached where store.disks[index].pointee.phase == .open {
            guard let timeout = core.diskTimeout(volume)?.nanoseconds else { continue }
            if now.nanoseconds &- oldestStart(on: index) >= timeout { deliver(.diskTimedOut(volume)) }
            next = min(next, now.nanoseconds &+ timeout / 4)
        }
        store.nextTimeoutCheck = next
    }

    /// Now, if nothing is under way.
    private func oldestStart(on disk: Int) -> UInt64 {
        var oldest = now.nanoseconds
        let metadata = store.disks[disk].pointee.metadata
        if metadata.step != .idle { oldest = min(oldest, metadata.startedAt) }
        guard store.disks[disk].pointee.inFlight > 0 else { return oldest }
        for index in 0..<store.operations.capacity {
            let operation = store.operations[index]
            if operation.pointee.isRunning, Int(operation.pointee.disk) == disk { oldest = min(oldest, operation.pointee.startedAt) }
        }
        return oldest
    }

    mutating func abandonDisk(_ volume: VolumeNumber) {
        guard let index = store.index(of: volume), store.disks[index].pointee.phase == .open else { return }
        store.disks[index].pointee.phase = .abandoned
        let error = DiskError(ETIMEDOUT)
        dropWaitingReads(of: index)
        for k in 0..<store.operations.capacity {
            let operation = store.operations[k]
            guard operation.pointee.isRunning, Int(operation.pointee.disk) == index else { continue }
            operation.pointee.isAbandoned = true
            later(Self.ending(operation.pointee, of: volume, error))
        }
        if store.disks[index].pointee.metadata.step != .idle {
            store.disks[index].pointee.metadata.isAbandoned = true
            later(.metadataWritten(volume, error))
        }
    }

    /// Reads that wait for a buffer are not with the disk yet.
    private mutating func dropWaitingReads(of disk: Int) {
        var waiting = store.waitingFirst
        store.waitingFirst = -1
        store.waitingLast = -1
        while waiting >= 0 {
            let index = Int(waiting)
            let operation = store.operations[index]
            waiting = operation.pointee.next
            if Int(operation.pointee.disk) != disk {
                waitForBuffer(index)
                continue
            }
            later(Self.ending(operation.pointee, of: store.disks[disk].pointee.volume, DiskError(ETIMEDOUT)))
            operation.pointee.isRunning = false
            store.operations.give(index)
            store.disks[disk].pointee.inFlight &-= 1
        }
    }

    // MARK: Closing

    mutating func closeDisk(_ volume: VolumeNumber) {
        guard let index = store.index(of: volume) else {
            later(.diskClosed(volume))
            return
        }
        // An open that is still under way is answered first; `openFinished` then closes.
        let wasOpening = store.disks[index].pointee.phase == .opening
        store.disks[index].pointee.phase = .closing
        if !wasOpening { closeIfIdle(index) }
    }

    mutating func closeIfIdle(_ index: Int) {
        let disk = store.disks[index]
        guard disk.pointee.phase == .closing, disk.pointee.inFlight == 0, disk.pointee.metadata.step == .idle else { return }
        let volume = disk.pointee.volume
        closeDescriptors(of: disk.pointee)
        store.remove(index)
        later(.diskClosed(volume))
    }
}
