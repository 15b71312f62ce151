/// One option together with the place of its value in a settings structure.
package struct OptionField<Settings>: Sendable {
    package var shape: OptionShape
    package var read: @Sendable (Settings) -> OptionValue
    package var write: @Sendable (inout Settings, OptionValue) -> Void

    package var name: String { shape.name }
}

/// Every option that a configuration file or a low-level command may name: one table per section
/// (`control.md` 1.9; ranges and defaults of DRBD 8.4.11), in the order in which `show` lists them. The defaults are
/// those of the settings structures.
package enum OptionTable {
    package static let disk: [OptionField<DiskOptions>] = [
        wide("size", \.size, 0...(1 << 41), .sectors),
        number("max-bio-bvecs", \.maxBioBvecs, 0...128, need: .dropped),
        choice("on-io-error", \.onIOError),
        choice("fencing", \.fencing),
        flag("disk-barrier", \.diskBarrier, .dropped),
        flag("disk-flushes", \.diskFlushes),
        flag("disk-drain", \.diskDrain, .should),
        flag("md-flushes", \.mdFlushes),
        number("resync-rate", \.resyncRate, 1...4_194_304, .kibibytes),
        resyncAfter,
        alExtents,
        flag("al-updates", \.alUpdates, .should),
        flag("discard-zeroes-if-aligned", \.discardZeroesIfAligned, .should),
        flag("disable-write-same", \.disableWriteSame, .dropped),
        number("c-plan-ahead", \.cPlanAhead, 0...300),
        number("c-delay-target", \.cDelayTarget, 1...100, need: .should),
        number("c-fill-target", \.cFillTarget, 0...(1 << 20), .sectors, need: .should),
        number("c-max-rate", \.cMaxRate, 250...4_194_304, .kibibytes),
        number("c-min-rate", \.cMinRate, 0...4_194_304, .kibibytes, need: .should),
        number("disk-timeout", \.diskTimeout, 0...6000, need: .should),
        choice("read-balancing", \.readBalancing, .should),
        number("rs-discard-granularity", \.rsDiscardGranularity, 0...(1 << 20), need: .should),
    ]

    package static let net: [OptionField<NetOptions>] = [
        choice("protocol", \.replicationProtocol),
        number("timeout", \.timeout, 1...600),
        number("max-epoch-size", \.maxEpochSize, 1...20_000),
        number("max-buffers", \.maxBuffers, 32...131_072, need: .should),
        number("unplug-watermark", \.unplugWatermark, 1...131_072, need: .dropped),
        number("connect-int", \.connectInterval, 1...120),
        number("ping-int", \.pingInterval, 1...120),
        number("sndbuf-size", \.sendBufferSize, 0...(10 << 20)),
        number("rcvbuf-size", \.receiveBufferSize, 0...(10 << 20)),
        number("ko-count", \.koCount, 0...200),
        flag("allow-two-primaries", \.allowTwoPrimaries),
        text("cram-hmac-alg", \.cramHMACAlgorithm),
        text("shared-secret", \.sharedSecret),
        policy(
            "after-sb-0pri", \.afterSplitBrain0Primaries,
            [
                ("disconnect", .disconnect), ("discard-younger-primary", .discardYoungerPrimary),
                ("discard-older-primary", .discardOlderPrimary), ("discard-zero-changes", .discardZeroChanges),
                ("discard-least-changes", .discardLeastChanges), ("discard-local", .discardLocal),
                ("discard-remote", .discardRemote),
            ]),
        policy(
            "after-sb-1pri", \.afterSplitBrain1Primary,
            [
                ("disconnect", .disconnect), ("consensus", .consensus), ("discard-secondary", .discardSecondary),
                ("call-pri-lost-after-sb", .callPriLost), ("violently-as0p", .violently),
            ]),
        policy(
            "after-sb-2pri", \.afterSplitBrain2Primaries,
            [
                ("disconnect", .disconnect), ("call-pri-lost-after-sb", .callPriLost), ("violently-as0p", .violently),
            ]),
        flag("always-asbp", \.alwaysAfterSplitBrainPolicies, .should),
        policy(
            "rr-conflict", \.rrConflict,
            [("disconnect", .disconnect), ("call-pri-lost", .callPriLost), ("violently", .violently)]),
        number("ping-timeout", \.pingTimeout, 1...300),
        text("data-integrity-alg", \.dataIntegrityAlgorithm),
        flag("tcp-cork", \.tcpCork, .should),
        choice("on-congestion", \.onCongestion, .should),
        wide("congestion-fill", \.congestionFill, 0...(10 << 21), .sectors, need: .should),
        number("congestion-extents", \.congestionExtents, 67...65_534, need: .should),
        text("csums-alg", \.checksumAlgorithm),
        flag("csums-after-crash-only", \.checksumsAfterCrashOnly, .should),
        text("verify-alg", \.verifyAlgorithm),
        flag("use-rle", \.useRLE),
        number("socket-check-timeout", \.socketCheckTimeout, 0...300),
    ]

    package static let resource: [OptionField<ResourceOptions>] = [
        text("cpu-mask", \.cpuMask, maximum: 255, .dropped),
        choice("on-no-data-accessible", \.onNoDataAccessible),
    ]

    package static let startup: [OptionShape] = [
        OptionShape("wfc-timeout", .number(0...300_000, .one), .must),
        OptionShape("degr-wfc-timeout", .number(0...300_000, .one), .must),
        OptionShape("outdated-wfc-timeout", .number(0...300_000, .one), .must),
        OptionShape("wait-after-sb", .flag, .must),
        OptionShape("become-primary-on", .text(maximum: 255), .must),
        OptionShape("stacked-timeouts", .flag, .should),
    ]

    package static let global: [OptionShape] = [
        OptionShape("disable-ip-verification", .flag, .must),
        OptionShape("minor-count", .number(1...255, .one), .dropped),
        OptionShape("dialog-refresh", .number(0...600, .one), .must),
        OptionShape("cmd-timeout-short", .number(0...900, .one), .should),
        OptionShape("cmd-timeout-medium", .number(0...900, .one), .should),
        OptionShape("cmd-timeout-long", .number(0...900, .one), .should),
        OptionShape("usage-count", .choice(["yes", "no", "ask"]), .dropped),
        OptionShape("udev-always-use-vnr", .flag, .should),
    ]

    /// The commercial proxy: parsed and printed, never used.
    package static let proxy: [OptionShape] = [
        OptionShape("memlimit", .text(maximum: 255), .ignored),
        OptionShape("read-loops", .text(maximum: 255), .ignored),
        OptionShape("compression", .text(maximum: 255), .ignored),
        OptionShape("bwlimit", .text(maximum: 255), .ignored),
        OptionShape("sndbuf-size", .text(maximum: 255), .ignored),
        OptionShape("rcvbuf-size", .text(maximum: 255), .ignored),
        OptionShape("ping-timeout", .text(maximum: 255), .ignored),
    ]

    /// Handler names (`control.md` 4.1); `outdate-peer` is the old alias of `fence-peer`.
    package static let handlers: [String] = [
        "pri-on-incon-degr", "pri-lost-after-sb", "pri-lost", "initial-split-brain", "split-brain", "before-resync-target",
        "after-resync-target", "before-resync-source", "fence-peer", "unfence-peer", "local-io-error", "out-of-sync",
    ]

    /// Where an 8.3 `syncer` option lives since 8.4; nil: dropped without a trace (8.3.8 only).
    package enum SyncerTarget: Equatable, Sendable { case disk, net, options, dropped }

    /// 8.3 `syncer` names and what became of them (`control.md` 1.10).
    package static let syncer: [(old: String, target: SyncerTarget, new: String)] = [
        ("rate", .disk, "resync-rate"), ("after", .disk, "resync-after"), ("al-extents", .disk, "al-extents"),
        ("c-plan-ahead", .disk, "c-plan-ahead"), ("c-delay-target", .disk, "c-delay-target"),
        ("c-fill-target", .disk, "c-fill-target"), ("c-max-rate", .disk, "c-max-rate"),
        ("c-min-rate", .disk, "c-min-rate"), ("verify-alg", .net, "verify-alg"), ("csums-alg", .net, "csums-alg"),
        ("use-rle", .net, "use-rle"), ("cpu-mask", .options, "cpu-mask"),
        ("on-no-data-accessible", .options, "on-no-data-accessible"), ("delay-probe-volume", .dropped, ""),
        ("delay-probe-interval", .dropped, ""), ("throttle-threshold", .dropped, ""), ("hold-off-threshold", .dropped, ""),
    ]

    /// Bare negative flags of 8.3 and the flags they clear.
    package static let negativeFlags: [(old: String, new: String)] = [
        ("no-disk-barrier", "disk-barrier"), ("no-disk-flushes", "disk-flushes"), ("no-disk-drain", "disk-drain"),
        ("no-md-flushes", "md-flushes"), ("no-tcp-cork", "tcp-cork"),
    ]
}

// MARK: - Reading and writing by name

extension Array {
    package func field<Settings>(named name: String) -> OptionField<Settings>? where Element == OptionField<Settings> {
        first { $0.name == name }
    }
}

extension OptionField {
    /// Sets the option from its text. A nil text is a bare name.
    package func apply(_ text: String?, to settings: inout Settings) throws(OptionError) {
        write(&settings, try shape.value(parsing: text))
    }
}

/// The options of `settings` that differ from `defaults`, in table order, as `name=value` pairs.
package func optionsDiffering<Settings>(
    _ settings: Settings, from defaults: Settings, in table: [OptionField<Settings>]
) -> [(name: String, value: OptionValue)] {
    var result: [(name: String, value: OptionValue)] = []
    for field in table {
        let value = field.read(settings)
        if value != field.read(defaults) { result.append((field.name, value)) }
    }
    return result
}

// MARK: - Building the table

/// An enum with one fixed spelling per case, as configuration files write it.
package protocol OptionSpelling: Equatable, Sendable {
    static var spellings: [(name: String, value: Self)] { get }
}

extension OptionSpelling {
    package var spelling: String { Self.spellings.first { $0.value == self }?.name ?? "" }
}

extension ReplicationProtocol: OptionSpelling {
    package static let spellings: [(name: String, value: ReplicationProtocol)] = [("A", .a), ("B", .b), ("C", .c)]
}
extension OnIOError: OptionSpelling {
    package static let spellings: [(name: String, value: OnIOError)] = [
        ("pass_on", .passOn), ("call-local-io-error", .callLocalIOError), ("detach", .detach),
    ]
}
extension FencingPolicy: OptionSpelling {
    package static let spellings: [(name: String, value: FencingPolicy)] = [
        ("dont-care", .dontCare), ("resource-only", .resourceOnly), ("resource-and-stonith", .resourceAndStonith),
    ]
}
extension OnNoData: OptionSpelling {
    package static let spellings: [(name: String, value: OnNoData)] = [
        ("io-error", .ioError), ("suspend-io", .suspendIO),
    ]
}
extension OnCongestion: OptionSpelling {
    package static let spellings: [(name: String, value: OnCongestion)] = [
        ("block", .block), ("pull-ahead", .pullAhead), ("disconnect", .disconnect),
    ]
}
extension ReadBalancing: OptionSpelling {
    package static let spellings: [(name: String, value: ReadBalancing)] = [
        ("prefer-local", .preferLocal), ("prefer-remote", .preferRemote), ("round-robin", .roundRobin),
        ("least-pending", .leastPending), ("when-congested-remote", .whenCongestedRemote),
        ("32K-striping", .striping(shift: 15)), ("64K-striping", .striping(shift: 16)),
        ("128K-striping", .striping(shift: 17)), ("256K-striping", .striping(shift: 18)),
        ("512K-striping", .striping(shift: 19)), ("1M-striping", .striping(shift: 20)),
    ]
}

/// The place of a value; key paths to stored properties may cross threads.
private typealias Path<Settings, Value> = any (WritableKeyPath<Settings, Value> & Sendable)

private func number<Settings>(
    _ name: String, _ path: Path<Settings, Int>, _ range: ClosedRange<UInt64>,
    _ unit: OptionUnit = .one, need: OptionNeed = .must
) -> OptionField<Settings> {
    OptionField(
        shape: OptionShape(name, .number(range, unit), need),
        read: { .number(UInt64(clamping: $0[keyPath: path])) },
        write: { if case .number(let value) = $1 { $0[keyPath: path] = Int(clamping: value) } })
}

private func wide<Settings>(
    _ name: String, _ path: Path<Settings, UInt64>, _ range: ClosedRange<UInt64>,
    _ unit: OptionUnit, need: OptionNeed = .must
) -> OptionField<Settings> {
    OptionField(
        shape: OptionShape(name, .number(range, unit), need),
        read: { .number($0[keyPath: path]) },
        write: { if case .number(let value) = $1 { $0[keyPath: path] = value } })
}

private func flag<Settings>(
    _ name: String, _ path: Path<Settings, Bool>, _ need: OptionNeed = .must
) -> OptionField<Settings> {
    OptionField(
        shape: OptionShape(name, .flag, need),
        read: { .flag($0[keyPath: path]) },
        write: { if case .flag(let value) = $1 { $0[keyPath: path] = value } })
}

private func text<Settings>(
    _ name: String, _ path: Path<Settings, String>, maximum: Int = 64,
    _ need: OptionNeed = .must
) -> OptionField<Settings> {
    OptionField(
        shape: OptionShape(name, .text(maximum: maximum), need),
        read: { .text($0[keyPath: path]) },
        write: { if case .text(let value) = $1 { $0[keyPath: path] = value } })
}

private func choice<Settings, Value: OptionSpelling>(
    _ name: String, _ path: Path<Settings, Value>, _ need: OptionNeed = .must
) -> OptionField<Settings> {
    named(name, path, Value.spellings, need)
}

private func policy(
    _ name: String, _ path: Path<NetOptions, SplitBrainPolicyValue>,
    _ spellings: [(name: String, value: SplitBrainPolicyValue)]
) -> OptionField<NetOptions> {
    named(name, path, spellings, .must)
}

private func named<Settings, Value: Equatable & Sendable>(
    _ name: String, _ path: Path<Settings, Value>, _ spellings: [(name: String, value: Value)],
    _ need: OptionNeed
) -> OptionField<Settings> {
    OptionField(
        shape: OptionShape(name, .choice(spellings.map(\.name)), need),
        read: { settings in
            let value = settings[keyPath: path]
            return .text(spellings.first { $0.value == value }?.name ?? "")
        },
        write: { settings, text in
            guard case .text(let name) = text, let match = spellings.first(where: { $0.name == name }) else { return }
            settings[keyPath: path] = match.value
        })
}

/// `resync-after`: the minor of the volume to wait for; "-1" for none. Names are resolved before.
private let resyncAfter = OptionField<DiskOptions>(
    shape: OptionShape("resync-after", .reference, .should),
    read: { .text(String($0.resyncAfter)) },
    write: { settings, value in
        if case .text(let text) = value, let minor = Int(text) { settings.resyncAfter = max(minor, -1) }
    })

/// `al-extents`: moved into its range, never refused.
private let alExtents = OptionField<DiskOptions>(
    shape: OptionShape("al-extents", .clampedNumber(67...65_534, .one), .must),
    read: { .number(UInt64(clamping: $0.alExtents)) },
    write: { if case .number(let value) = $1 { $0.alExtents = Int(clamping: value) } })
