/// What each option of a configuration file means. Ranges, defaults and choices are not written here: the manual takes
/// them from `OptionTable`, and a test holds the names against it (`control.md` 1.9).
enum OptionDescriptions {
    typealias Text = (name: String, text: String)

    static let global: [Text] = [
        ("disable-ip-verification", "Does not check that a resource's own address is one of this machine's."),
        ("minor-count", "The number of devices that the kernel's module prepares for."),
        ("dialog-refresh", "How often `wait-con-int` draws its counter, in seconds; 0 is once. 1 by default."),
        ("cmd-timeout-short", "How long an ordinary low-level command may take, in seconds; 0 is for ever. 5 by default."),
        ("cmd-timeout-medium", "The same for commands that wait for a disk or the peer. 121 by default."),
        ("cmd-timeout-long", "The same for work on metadata and for handlers. 600 by default."),
        ("usage-count", "Whether to count this installation. Nothing is ever sent."),
        ("udev-always-use-vnr", "Names by resource end in a volume number although there is one volume only."),
    ]

    static let startup: [Text] = [
        ("wfc-timeout", "How long to wait for the peer, in seconds; 0, the default, is for ever."),
        (
            "degr-wfc-timeout",
            "Used instead if this node was Primary and alone when it went down. At most `wfc-timeout`."
        ),
        ("outdated-wfc-timeout", "Used instead if the peer's data is known to be outdated. At most `wfc-timeout`."),
        ("wait-after-sb", "Waits on although a split brain has ended the connection."),
        ("become-primary-on", "Hosts, or `both`, that `sh-b-pri` makes Primary. A cluster manager does that better."),
        ("stacked-timeouts", "Stacked resources wait as long as others; otherwise twice `connect-int`."),
    ]

    static let disk: [Text] = [
        ("size", "The size of the device; 0 is what both disks have room for."),
        ("max-bio-bvecs", "A limit of the kernel's."),
        (
            "on-io-error",
            "What an error of the disk leads to. `detach`: the node goes on without disk, through the peer. "
                + "`call-local-io-error`: the handler `local-io-error`. `pass_on`: the block counts as out of sync, and the "
                + "client hears of the error if there is no other copy."
        ),
        (
            "fencing",
            "Whether a Primary that loses its peer calls `fence-peer`: `resource-only` does, `resource-and-stonith` holds all I/O "
                + "until the handler has answered."
        ),
        ("disk-barrier", "A method of the kernel's to order writes."),
        (
            "disk-flushes",
            "Flushes the disk where the order of writes needs it. Only for disks whose cache survives a power cut: `no`."
        ),
        ("disk-drain", "Waits for earlier writes where the order of writes needs it."),
        ("md-flushes", "Flushes the disk after writes of metadata."),
        ("resync-rate", "The rate of a resync per second: fixed if `c-plan-ahead` is 0, else the one to begin with."),
        ("resync-after", "A resource, or RESOURCE/VOLUME: no resync here while that one is not in sync."),
        (
            "al-extents",
            "How many areas of 4 MiB may be written to at a time without a write of metadata: what a crash makes the resync copy."
        ),
        ("al-updates", "Whether the activity log is kept. Without it a crash of a Primary costs a full resync."),
        (
            "discard-zeroes-if-aligned",
            "Passes discards on although the disk may leave old data at their edges, which are zeroed."
        ),
        ("disable-write-same", "A request of the kernel's."),
        ("c-plan-ahead", "How far the resync's controller plans, in tenths of a second; 0 turns it off."),
        ("c-delay-target", "The delay that the controller aims at if `c-fill-target` is 0, in tenths of a second."),
        ("c-fill-target", "The amount in flight that the controller aims at."),
        ("c-max-rate", "The controller's highest rate per second."),
        ("c-min-rate", "The rate per second down to which applications slow a resync; 0 is no limit."),
        ("disk-timeout", "After how long without an answer the disk counts as failed, in tenths of a second; 0 is never."),
        ("read-balancing", "Which disk answers reads if both are good."),
        (
            "rs-discard-granularity",
            "Zeroes of this size, in bytes, are discarded by a resync instead of written; 0 is never."
        ),
    ]

    static let net: [Text] = [
        (
            "protocol",
            "When a write is complete. `A`: on the local disk, and on its way. `B`: also received by the peer. "
                + "`C`: also on the peer's disk. Databases want `C`."
        ),
        ("timeout", "How long the peer may take to answer, in tenths of a second. Less than `connect-int` and `ping-int`."),
        ("max-epoch-size", "Writes between two barriers, at most."),
        ("max-buffers", "Buffers for what the peer sends, in pages of 4 KiB."),
        ("unplug-watermark", "When to hurry the disk."),
        ("connect-int", "The time between attempts to connect, in seconds."),
        ("ping-int", "How long a connection may be silent before the peer is asked, in seconds."),
        ("sndbuf-size", "The socket's send buffer, in bytes; 0 is the system's choice."),
        ("rcvbuf-size", "The socket's receive buffer, in bytes; 0 is the system's choice."),
        ("ko-count", "A peer that does not take a write within that many times `timeout` is dropped; 0 is never."),
        ("allow-two-primaries", "Both nodes may be Primary at once, for cluster file systems. Needs protocol C."),
        (
            "cram-hmac-alg",
            "The digest by which the nodes prove that they share a secret, for example `sha256`. None by default."
        ),
        ("shared-secret", "The secret. Nobody else should be able to read the file."),
        (
            "after-sb-0pri",
            "Whose changes are given up after a split brain if no node is Primary now. Also `discard-node-HOST`."
        ),
        ("after-sb-1pri", "The same if one node is Primary."),
        ("after-sb-2pri", "The same if both are."),
        ("always-asbp", "Follows these policies after three-node mix-ups, too."),
        ("rr-conflict", "What to do if a Primary would have to be overwritten."),
        ("ping-timeout", "How long the answer to a ping may take, in tenths of a second."),
        ("data-integrity-alg", "A digest that each block carries over the wire. None by default."),
        ("tcp-cork", "Collects packets before they leave."),
        ("on-congestion", "With protocol A, if the connection is too slow: wait, go on alone for a while, or disconnect."),
        ("congestion-fill", "The amount in flight that counts as congestion; 0 is none."),
        ("congestion-extents", "The hot areas of the activity log that count as congestion."),
        ("csums-alg", "A digest by which a resync leaves out blocks that are equal. None by default."),
        ("csums-after-crash-only", "The same, only after a Primary's crash."),
        ("verify-alg", "The digest by which `verify` compares. None by default, and then there is no verify."),
        ("use-rle", "Compresses bitmaps on the wire."),
        (
            "socket-check-timeout",
            "How long both streams of a new connection are left alone until they are used; in 0.1 s; 0 is as `ping-timeout`."
        ),
    ]

    static let resource: [Text] = [
        ("cpu-mask", "The processors of the kernel's threads."),
        ("on-no-data-accessible", "What I/O does when no good disk is left: fail, or wait for one."),
    ]

    static let handlers: [Text] = [
        ("pri-on-incon-degr", "This node is Primary, and no good disk is left."),
        ("pri-lost-after-sb", "A split-brain policy has this Primary give up its data, and it can't be demoted."),
        ("pri-lost", "The peer's data is to overwrite this Primary's (`rr-conflict call-pri-lost`)."),
        ("initial-split-brain", "A split brain was found; the policies come next."),
        ("split-brain", "A split brain was found, and no policy solves it."),
        ("before-resync-target", "This node is about to be overwritten. Other than 0 refuses it: a place for a snapshot."),
        ("after-resync-target", "This node has been overwritten completely."),
        ("before-resync-source", "This node is about to be copied from. Other than 0 refuses it."),
        (
            "fence-peer",
            "The peer is gone, and a policy of fencing is set. 3: its disk is inconsistent; 4: it is outdated now; 5: it can't be "
                + "reached; 6: it is Primary; 7: it has been shot."
        ),
        ("unfence-peer", "The peer has been copied to, and is good again."),
        ("local-io-error", "A disk has failed (`on-io-error call-local-io-error`)."),
        ("out-of-sync", "A verify has found differences."),
    ]
}
