import Glibc
import ReplicaProto

/// Who sees the packets pass by: control connections that have asked with the line `trace`.
///
/// Without any the data path pays for one comparison a packet. A tracer that is too slow loses packets and is told how
/// many; it holds nobody up.
struct Tracing {
    enum Mode: UInt8 {
        case off
        /// Headers and fixed parts.
        case heads
        /// The payload as well.
        case all
    }

    /// Bytes that may wait for one tracer.
    static let backlog = 32 << 20

    var tracers = 0
    /// The head of the packet whose payload is still being received, by stream.
    var dataHead: [UInt8] = []
    var metaHead: [UInt8] = []
}

extension ResourceLoop {
    @inline(__always) var isTraced: Bool { tracing.tracers > 0 }

    mutating func startTracing(_ index: Int, _ mode: Tracing.Mode) {
        control.list[index].trace = mode
        control.list[index].lostPackets = 0
        tracing.tracers += 1
        for kind in [StreamKind.data, .meta] {
            if let socket = link.index(of: kind) { traceOpened(socket, to: index) }
        }
    }

    mutating func stopTracing(_ index: Int) {
        guard control.list[index].trace != .off else { return }
        control.list[index].trace = .off
        tracing.tracers -= 1
    }

    // MARK: What happens

    /// A stream carries packets from now on; its marker was the first bytes of it.
    mutating func traceUse(_ socket: Int) {
        for index in 0..<ControlTable.connections where control.list[index].trace != .off {
            traceOpened(socket, to: index)
        }
        let kind = link.sockets[socket].stream
        tracing[kind] = []
        let marker: [UInt8] = [0x83, 0x74, 0x02, 0x67, 0xff, kind == .data ? 0xf2 : 0xf1, 0, 0]
        trace(socket, isOutgoing: link.sockets[socket].marker == 0, marker, UnsafeRawBufferPointer(start: nil, count: 0))
    }

    /// - Parameter head: with a digest, if the packet has one.
    mutating func traceSent(_ socket: Int, _ head: UnsafeRawBufferPointer, _ payload: UnsafeRawBufferPointer) {
        trace(socket, isOutgoing: true, Array(head), payload)
    }

    /// The head of a received packet is complete; its payload, if it has any, comes with `traceReceivedPayload`.
    mutating func traceReceivedHead(_ socket: Int, _ head: UnsafeRawBufferPointer, hasPayload: Bool) {
        if hasPayload {
            tracing[link.sockets[socket].stream] = Array(head)
        } else {
            trace(socket, isOutgoing: false, Array(head), UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    mutating func traceReceivedPayload(_ socket: Int) {
        let kind = link.sockets[socket].stream
        // Without a head it began before anybody traced.
        guard !tracing[kind].isEmpty else { return }
        let head = tracing[kind]
        tracing[kind] = []
        let stream = link.streams + socket
        trace(
            socket, isOutgoing: false, head,
            UnsafeRawBufferPointer(start: pool.address(of: stream.pointee.payload), count: stream.pointee.payloadLength))
    }

    // MARK: Records

    private mutating func trace(_ socket: Int, isOutgoing: Bool, _ head: [UInt8], _ payload: UnsafeRawBufferPointer) {
        var record = newRecord(.packet, socket)
        record.isOutgoing = isOutgoing
        record.fixedBytes = UInt32(head.count)
        record.payloadBytes = UInt32(payload.count)
        for index in 0..<ControlTable.connections where control.list[index].trace != .off {
            let connection = control.list + index
            guard connection.pointee.output.waitingBytes < Tracing.backlog else {
                connection.pointee.lostPackets &+= 1
                continue
            }
            record.lost = connection.pointee.lostPackets
            connection.pointee.lostPackets = 0
            let taken = connection.pointee.trace == .all ? payload.count : 0
            record.length = UInt32(head.count + taken)
            append(record, to: index, head, UnsafeRawBufferPointer(start: payload.baseAddress, count: taken))
        }
    }

    private mutating func traceOpened(_ socket: Int, to index: Int) {
        var record = newRecord(.opened, socket)
        let text = Array("\(endpoint(socket, getsockname)) \(endpoint(socket, getpeername))".utf8)
        record.length = UInt32(text.count)
        append(record, to: index, text, UnsafeRawBufferPointer(start: nil, count: 0))
    }

    private func newRecord(_ kind: TraceRecord.Kind, _ socket: Int) -> TraceRecord {
        var moment = timespec()
        clock_gettime(CLOCK_REALTIME, &moment)
        return TraceRecord(
            kind, stream: link.sockets[socket].stream, socket: link.sockets[socket].id.value, format: link.format,
            nanoseconds: UInt64(moment.tv_sec) &* 1_000_000_000 &+ UInt64(moment.tv_nsec))
    }

    private mutating func append(_ record: TraceRecord, to index: Int, _ head: [UInt8], _ payload: UnsafeRawBufferPointer) {
        control.list[index].output.append(length: TraceRecord.headBytes + head.count + payload.count) { target in
            var output = OutputRawSpan(buffer: target, initializedCount: 0)
            record.encode(into: &output)
            _ = output.finalize(for: target)
            UnsafeMutableRawBufferPointer(rebasing: target[TraceRecord.headBytes...]).copyBytes(from: head)
            UnsafeMutableRawBufferPointer(rebasing: target[(TraceRecord.headBytes + head.count)...]).copyMemory(from: payload)
        }
    }

    private func endpoint(
        _ socket: Int, _ name: (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
    ) -> String {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { name(link.sockets[socket].descriptor, $0, &length) }
        }
        guard result == 0 else { return "?:0" }
        // Port and address stand at the same place in both families.
        let port = withUnsafeBytes(of: storage) { UInt16($0[2]) << 8 | UInt16($0[3]) }
        let host = NetworkAddress.text(storage, length)
        return storage.ss_family == sa_family_t(AF_INET6) ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}

extension Tracing {
    fileprivate subscript(kind: StreamKind) -> [UInt8] {
        get { kind == .data ? dataHead : metaHead }
        set { if kind == .data { dataHead = newValue } else { metaHead = newValue } }
    }
}
