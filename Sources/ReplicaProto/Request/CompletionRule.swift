/// What the two sides' progress means for the client.
enum Completion: UInt8, Equatable { case wait, succeed, fail }

extension ReplicationProtocol {
    /// When a write is complete (`wire.md` 7.6): A on the local disk and handed to the network, B received by the
    /// peer, C written by the peer. Good on one side is success; the other side's blocks are then known out of sync.
    func completion(local: LocalProgress, peer: RemoteProgress) -> Completion {
        switch (local, peer, self) {
        case (.pending, _, _): .wait
        case (_, .queued, _), (_, .sent, .b), (_, .sent, .c), (_, .received, .c): .wait
        case (.succeeded, _, _), (_, .sent, _), (_, .received, _), (_, .written, _): .succeed
        case (.diskless, .absent, _), (.diskless, .refused, _), (.failed, .absent, _), (.failed, .refused, _): .fail
        }
    }
}
