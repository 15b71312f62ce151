import ReplicaProto

/// Two histories of the same data: one of them has to go, and only people can say which.
extension Diagnosis {
    mutating func splitBrain() {
        say(
            .splitBrain, .danger, "split brain: \(node) and \(peer) have both changed the data of \(name) since they parted",
            [
                "Nothing was overwritten, and nothing is copied until somebody decides whose changes are given up. Applications may go "
                    + "on meanwhile, but what they write on the node that is given up is lost as well."
            ] + histories + [howToSave], survivorChoices())
    }

    mutating func unrelatedData() {
        say(
            .unrelatedData, .danger, "\(node) and \(peer) hold unrelated data",
            [
                "Their histories have nothing in common: one of the disks comes from elsewhere, or got new metadata and was used. "
                    + "Nothing was overwritten."
            ] + histories + [howToSave],
            [
                Choice(
                    "WARNING: to keep \(peer)'s data. All data of \(node) is lost by this: \(peer)'s is copied over it",
                    [
                        .advice("stop what uses \(devices) on \(node)"), here("down \(name)"),
                        here("create-md --force \(name)"), here("up \(name)"), there("adjust \(name)"),
                    ]),
                Choice(
                    "WARNING: to keep \(node)'s data. All data of \(peer) is lost by this: \(node)'s is copied over it",
                    [
                        .advice("stop what uses \(devices) on \(peer)"), there("down \(name)"),
                        there("create-md --force \(name)"), there("up \(name)"), here("adjust \(name)"),
                    ]),
            ])
    }

    /// Who has what: roles, amounts, generations.
    private var histories: [String] {
        evidence.volumes.compactMap { volume in
            guard let status = volume.status else { return nil }
            let identifiers = status.identifiers
            func hex(_ value: UInt64) -> String { GenerationText.hex(value, digits: 16) }
            let role = status.state.role.name
            var text = "\(title(volume)) on \(node): \(role), \(status.state.disk.name), "
            text +=
                "\(Self.amount(status.outOfSyncBits &* 4)) changed since the two parted; generation \(hex(identifiers.current))"
            if identifiers.bitmap != 0 { text += ", which began from \(hex(identifiers.bitmap))" }
            return text
                + ". What \(peer) has is said there by `replctl role \(volume.target)` and `replctl get-gi \(volume.target)`."
        }
    }

    private var howToSave: String {
        "To save the changes that are given up: before the steps below, copy the files of that node, or dump its database, or copy "
            + "the whole device (`dd if=\(evidence.volumes.first?.device ?? "DEVICE") of=FILE bs=1M`, with the file system unmounted) "
            + "while it is Primary there."
    }

    /// Unless the peer waits already, as an open port says.
    private var peerConnects: [Step] { evidence.port == .accepts ? [] : [there("connect \(name)")] }

    /// Either node may be the one that gives up.
    func survivorChoices() -> [Choice] {
        [
            Choice(
                "WARNING: to keep \(peer)'s data. What \(node) has changed since the two parted is lost by this",
                [
                    .advice("stop what uses \(devices) on \(node)"), here("secondary \(name)"), here("disconnect \(name)"),
                    here("connect --discard-my-data \(name)"),
                ] + peerConnects),
            Choice(
                "WARNING: to keep \(node)'s data. What \(peer) has changed since the two parted is lost by this",
                [
                    .advice("stop what uses \(devices) on \(peer)"), there("secondary \(name)"), there("disconnect \(name)"),
                    there("connect --discard-my-data \(name)"), here("connect \(name)"),
                ]),
        ]
    }
}
