import ReplicaProto
import Testing

/// The decisions of a real DRBD kernel, from its log: same identifiers in, same rule, same consequence, same words out.
@Suite struct RecordedDecisionTests {
    @Test func vectorsAreThere() {
        #expect(RecordedHandshake.all.count >= 85)
        #expect(RecordedChange.all.count >= 100)
    }

    @Test(arguments: RecordedHandshake.all) func comparesLikeTheKernel(recorded: RecordedHandshake) {
        var input = recorded.comparison
        var result = compareGenerations(input)
        #expect(result.verdict.number == recorded.verdict)
        #expect(result.rule == recorded.rule)
        input.isResolver = true
        result = compareGenerations(input)
        #expect(result.verdict.number == recorded.verdict, "no recorded decision was a tie")
    }

    @Test(arguments: RecordedHandshake.all) func decidesLikeTheKernel(recorded: RecordedHandshake) {
        let decision = decideSync(recorded.decisionInput())
        let expected: SyncOutcome =
            switch recorded.outcome {
            case "Connected": .connected
            case "WFBitMapS": .becomeSource(full: abs(recorded.verdict) == 2)
            case "WFBitMapT": .becomeTarget(full: abs(recorded.verdict) == 2)
            default: .fail(.splitBrain)
            }
        #expect(decision.outcome == expected)
        #expect(decision.handlers.map(\.rawValue) == recorded.handlers)
        let lines = decision.steps.compactMap { step -> String? in
            if case .log(_, let line) = step, !line.hasPrefix("No resync") { return line }
            return nil
        }
        #expect(lines == recorded.log)
    }

    /// What follows from the decision: the line the kernel logged when it applied it.
    @Test(arguments: RecordedHandshake.all.filter { $0.outcome != "Disconnecting" && $0.outcome != "NetworkFailure" })
    func appliesDecisionLikeTheKernel(recorded: RecordedHandshake) {
        var before = VolumeState()
        before.role = recorded.ownRole
        before.disk = recorded.ownCurrentDisk
        before.peerRole = recorded.change.hasPrefix("peer( Unknown") ? .unknown : recorded.peerRole
        before.peerDisk = recorded.peerDisk
        for disk in DiskState.allCases where recorded.change.contains("pdsk( \(disk.name) ->") { before.peerDisk = disk }
        before.connection = recorded.change.contains("conn( Connected ->") ? .connected : .wfReportParams
        var wanted = before
        wanted.peerRole = recorded.peerRole
        wanted.peerDisk = recorded.peerDisk
        wanted.connection = DecisionVectors.connection(recorded.outcome)
        if before.disk == .negotiating && wanted.connection != .wfBitMapT { wanted.disk = recorded.ownDisk }
        let after = wanted.sanitized(from: before, context: StateContext())
        #expect(after.description(changedFrom: before) == recorded.change)
    }

    @Test(arguments: RecordedChange.all) func impliesLikeTheKernel(recorded: RecordedChange) {
        var wanted = recorded.before
        wanted.connection = recorded.newConnection
        let after = wanted.sanitized(from: recorded.before, context: StateContext())
        #expect(after.description(changedFrom: recorded.before) == recorded.line)
        #expect(!VolumeState.isHardForbidden(from: recorded.before, to: after))
    }

    @Test func refusalReadsLikeTheKernels() {
        var old = VolumeState()
        old.connection = .connected
        old.role = .primary
        old.peerRole = .secondary
        old.disk = .diskless
        old.peerDisk = .upToDate
        let context = StateContext(onNoData: .suspendIO)
        var wanted = old
        wanted.connection = .tearDown
        let new = wanted.sanitized(from: old, context: context)
        let result = VolumeState.evaluateSoftChange(from: old, to: new, context: context)
        #expect(result == .noUpToDateDisk)
        #expect(
            old.refusalLines(wanted: new, result: .noUpToDateDisk) == [
                "State change failed: Need access to UpToDate data",
                "  state = { cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate r----- }",
                " wanted = { cs:TearDown ro:Primary/Unknown ds:Diskless/DUnknown s----N }",
            ])
    }
}
