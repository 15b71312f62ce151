/// A volume's number within its resource (0..65535), as on the wire and in `volume N { }`.
package struct VolumeNumber: Hashable, Comparable, Sendable {
    package var value: UInt16
    @inlinable package init(_ value: UInt16) { self.value = value }
    @inlinable package static func < (left: VolumeNumber, right: VolumeNumber) -> Bool { left.value < right.value }
}

/// One client request (or one piece of a split one), named by whoever serves the client.
///
/// `index` is dense and below `Limits.clientRequests`; `generation` tells two uses of one index apart.
package struct RequestID: Hashable, Sendable {
    package var index: UInt32
    package var generation: UInt32
    @inlinable package init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }
}

/// One piece of disk work done for the peer, named by the core. `index` is below `Limits.peerRequests`.
package struct PeerRequestID: Hashable, Sendable {
    package var index: UInt32
    package var generation: UInt32
    @inlinable package init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }
}

/// Names payload bytes that the core never sees. Owned by exactly one party at a time; see `Event` and `Effect`.
package struct BufferSlot: Hashable, Sendable {
    package var value: UInt32
    @inlinable package init(_ value: UInt32) { self.value = value }
}

/// One TCP stream, named by whoever opened or accepted it; never reused while the core knows it.
package struct SocketID: Hashable, Sendable {
    package var value: UInt32
    @inlinable package init(_ value: UInt32) { self.value = value }
}

/// One administrative command that waits for its answer.
package struct CommandID: Hashable, Sendable {
    package var value: UInt64
    @inlinable package init(_ value: UInt64) { self.value = value }
}

/// One run of a handler script that waits for its exit status.
package struct HandlerID: Hashable, Sendable {
    package var value: UInt32
    @inlinable package init(_ value: UInt32) { self.value = value }
}

/// Which of the two streams of a connection.
package enum StreamKind: UInt8, Hashable, Sendable {
    /// Handshake, application data, resync data, bitmap, state, barriers, requests.
    case data
    /// Acknowledgements, barrier acknowledgements, pings, replies to state change requests.
    case meta
}
