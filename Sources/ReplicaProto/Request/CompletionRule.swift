/// What the two sides' progress means for the client.
enum Completion: UInt8, Equatable { case wait, succeed, fail }

extension ReplicationProtocol {
    /// When a write is complete (`wire.md` 7.6): A on the local disk and handed to the network, B received by the
    /// peer, C written by the peer. Good on one side is success; the other side's blocks are then known out of sync.
    /// Without a good local disk A and B wait for the peer's disk, too: a write is never answered that is on none.
    func completion(local: LocalProgress, peer: RemoteProgress) -> Completion {
        switch (local, peer, self) {
        case (.pending, _, _): .wait
        case (_, .queued, _), (_, .sent, .b), (_, .sent, .c), (_, .received, .c): .wait
        case (.diskless, .sent, .a), (.failed, .sent, .a), (.diskless, .received, _), (.failed, .received, _): .wait
        case (.succeeded, _, _), (_, .sent, .a), (_, .received, _), (_, .written, _): .succeed
        case (.diskless, .absent, _), (.diskless, .refused, _), (.failed, .absent, _), (.failed, .refused, _): .fail
        }
    }
}
