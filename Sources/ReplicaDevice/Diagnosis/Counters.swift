/// How much work the loop has done: plain numbers, counted without allocation, read by `replctl` and the benchmarks.
struct Counters {
    var turns: UInt64 = 0
    var completions: UInt64 = 0
    var events: UInt64 = 0
    var effects: UInt64 = 0
    var receives: UInt64 = 0
    var sends: UInt64 = 0
    var diskOperations: UInt64 = 0
    var metadataOperations: UInt64 = 0
    var clientRequests: UInt64 = 0
    var packetsSent: UInt64 = 0
    var packetsReceived: UInt64 = 0

    /// One `name=value` per line; `enters` are the ring's system calls.
    func text(enters: UInt64) -> String {
        """
        enters=\(enters)
        turns=\(turns)
        completions=\(completions)
        events=\(events)
        effects=\(effects)
        receives=\(receives)
        sends=\(sends)
        disk-operations=\(diskOperations)
        metadata-operations=\(metadataOperations)
        client-requests=\(clientRequests)
        packets-sent=\(packetsSent)
        packets-received=\(packetsReceived)

        """
    }
}
