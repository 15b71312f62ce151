/// What a completion belongs to; selects who handles it.
enum OperationKind: UInt8 {
    /// Cancellations and other entries whose result nobody waits for.
    case ignored = 0
    case clientAccept, clientReceive, clientSend
    case disk, metadata
    case linkAccept, linkConnect, linkMarker, linkWatch, linkReceive, linkSend
    case controlAccept, controlReceive, controlSend
    case signal, wake, handler
}

/// The `user_data` of one submission: kind, generation and index in one word. A completion whose generation is not
/// that of its slot is stale and ignored.
///
/// | bits    | field                         |
/// |--------:|-------------------------------|
/// | 63...56 | kind                          |
/// | 55...32 | generation, wraps at 2^24     |
/// | 31...0  | index in the slab of the kind |
struct SubmissionToken: Equatable {
    var rawValue: UInt64

    @inline(__always)
    init(rawValue: UInt64) { self.rawValue = rawValue }
    @inline(__always)
    init(_ kind: OperationKind, index: Int, generation: UInt32 = 0) {
        rawValue =
            UInt64(kind.rawValue) << 56 | UInt64(generation & 0xff_ffff) << 32 | UInt64(UInt32(truncatingIfNeeded: index))
    }
    @inline(__always) var kind: OperationKind { OperationKind(rawValue: UInt8(rawValue >> 56)) ?? .ignored }
    @inline(__always) var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) & 0xff_ffff }
    @inline(__always) var index: Int { Int(UInt32(truncatingIfNeeded: rawValue)) }
    @inline(__always) func isOf(generation other: UInt32) -> Bool { generation == other & 0xff_ffff }
}
