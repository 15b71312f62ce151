import ReplicaProto
import Testing

@Suite struct ResyncControllerTests {
    /// The trace of `wire-resync.md` 8.12: defaults, every request answered within one step.
    @Test func startsLikeTheKernel() {
        var controller = ResyncController(options: DiskOptions(), maxBuffers: 2048)
        var answered = 0
        var blocks: [Int] = []
        for _ in 0..<6 {
            let count = controller.step(sectorsAnswered: answered)
            controller.note(requestedSectors: count * 8)
            answered = count * 8
            blocks.append(count)
        }
        #expect(blocks == [6, 7, 8, 9, 10, 11])
        #expect(controller.wantedRate == 11 * 40)
    }

    @Test func withoutAPlanTheRateIsFixed() {
        var options = DiskOptions()
        options.cPlanAhead = 0
        options.resyncRate = 4000
        var controller = ResyncController(options: options, maxBuffers: 2048)
        #expect(controller.step(sectorsAnswered: 0) == 100)
        #expect(controller.wantedRate == 4000)
    }

    @Test func neverMoreThanHalfTheBuffersInFlight() {
        var options = DiskOptions()
        options.cPlanAhead = 0
        options.resyncRate = 1_000_000
        var controller = ResyncController(options: options, maxBuffers: 80)
        let first = controller.step(sectorsAnswered: 0)
        #expect(first == 40)
        controller.note(requestedSectors: first * 8)
        #expect(controller.step(sectorsAnswered: 0) == 0)
        #expect(controller.step(sectorsAnswered: 80) == 10)
    }

    @Test func neverFasterThanTheMaximum() {
        var options = DiskOptions()
        options.cMaxRate = 4096
        options.resyncRate = 10_000_000
        var controller = ResyncController(options: options, maxBuffers: 100_000)
        for _ in 0..<50 {
            let count = controller.step(sectorsAnswered: 800)
            controller.note(requestedSectors: count * 8)
            #expect(count * 8 <= 4096 * 2 / 10)
        }
    }

    /// Against the words of the specification with a plain array that really shifts.
    @Test(arguments: UInt64(0)..<200) func agreesWithTheText(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var options = DiskOptions()
        options.cPlanAhead = 1 + random.below(40)
        options.cFillTarget = random.below(2) == 0 ? 0 : random.below(5000)
        options.cDelayTarget = random.below(50)
        options.cMaxRate = 250 + random.below(200_000)
        options.resyncRate = 1 + random.below(20_000)
        let maxBuffers = 32 + random.below(4096)
        var controller = ResyncController(options: options, maxBuffers: maxBuffers)
        var plan = Array(repeating: 0, count: options.cPlanAhead)
        var planSum = 0
        var inFlight = 0
        for _ in 0..<120 {
            let answered = random.below(max(1, inFlight) + 1)
            inFlight -= answered
            var want = options.cFillTarget > 0 ? options.cFillTarget : answered * options.cDelayTarget
            if inFlight + answered == 0 { want = (options.resyncRate * 2 / 10) * options.cPlanAhead }
            let each = (want - inFlight - planSum) / options.cPlanAhead
            plan = plan.map { $0 + each }
            planSum += each * options.cPlanAhead
            let now = plan.removeFirst()
            plan.append(0)
            planSum -= now
            let sectors = min(max(0, answered + now), options.cMaxRate * 2 / 10)
            let expected = max(0, min(sectors / 8, maxBuffers / 2 - inFlight / 8))
            let blocks = controller.step(sectorsAnswered: answered)
            #expect(blocks == expected)
            let issued = random.below(blocks + 1) * 8
            inFlight += issued
            controller.note(requestedSectors: issued)
            #expect(controller.inFlightSectors == inFlight)
        }
    }

    @Test func anyParametersOfAPeerAreSurvived() {
        for value in [0, 1, -1, Int.max, Int.min, Int(UInt32.max)] {
            var options = DiskOptions()
            options.cPlanAhead = value
            options.cFillTarget = value
            options.cDelayTarget = value
            options.cMaxRate = value
            options.resyncRate = value
            var controller = ResyncController(options: options, maxBuffers: 2048)
            for _ in 0..<400 {
                let count = controller.step(sectorsAnswered: 4096)
                controller.note(requestedSectors: count * 8)
            }
            controller.adopt(options: DiskOptions(), maxBuffers: 2048)
            controller.reset()
            #expect(controller.step(sectorsAnswered: 0) == 6)
        }
    }
}
