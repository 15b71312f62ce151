/// How many blocks a resync target (or the node that verifies) asks for, ten times a second (`wire-resync.md` 8.12).
///
/// A dead-beat controller with a plan: a correction is spread over the next `c-plan-ahead` steps, so that what is on its
/// way already counts. With `c-fill-target` it aims at an amount in flight, else at a delay of `c-delay-target`. A plan
/// of no steps means a fixed rate. All integer arithmetic, truncating towards zero, as in DRBD, so that both need the
/// same time for the same link.
///
/// Source: DRBD 8.4, `drbd_worker.c`, `drbd_rs_controller`.
package struct ResyncController: Sendable {
    /// Steps per second.
    package static let stepsPerSecond = 10
    package static let step = TimeSpan.milliseconds(100)
    /// Longest plan that the configuration allows (c-plan-ahead 300, in 0.1 s).
    private static let longestPlan = 300
    /// Bound of every other parameter, so that no product of two overflows: a peer may send any 32-bit number.
    private static let largestParameter = Int(UInt32.max)

    /// Sectors asked for and not answered yet.
    package private(set) var inFlightSectors = 0
    /// The speed that the last step aimed at, in KiB/s ("want:" of the status text).
    package private(set) var wantedRate = 0

    private var options: DiskOptions
    private var maxBuffers: Int
    private var plan: [Int]
    /// Where the plan starts in the ring `plan`.
    private var planStart = 0
    private var planSum = 0

    /// - Parameter maxBuffers: max-buffers, in pages; at most half of them are filled by resync.
    package init(options: DiskOptions, maxBuffers: Int) {
        self.options = options
        self.maxBuffers = maxBuffers
        plan = Array(repeating: 0, count: Self.bounded(options.cPlanAhead, Self.longestPlan))
    }

    /// Takes over changed settings. What is in flight stays known; a plan of another length starts anew.
    package mutating func adopt(options: DiskOptions, maxBuffers: Int) {
        let length = Self.bounded(options.cPlanAhead, Self.longestPlan)
        if length != plan.count {
            plan = Array(repeating: 0, count: length)
            planStart = 0
            planSum = 0
        }
        self.options = options
        self.maxBuffers = maxBuffers
    }

    /// Forgets everything: a resync starts.
    package mutating func reset() {
        inFlightSectors = 0
        wantedRate = 0
        planStart = 0
        planSum = 0
        for index in plan.indices { plan[index] = 0 }
    }

    /// One step of 100 ms.
    ///
    /// - Parameter sectorsAnswered: what came in since the last step; negative answers don't count.
    /// - Returns: blocks of 4 KiB to ask for now; report what was really asked for with `note(requestedSectors:)`.
    package mutating func step(sectorsAnswered: Int) -> Int {
        inFlightSectors -= sectorsAnswered
        var blocks: Int
        if plan.isEmpty {
            wantedRate = Self.bounded(options.resyncRate, Self.largestParameter)
            blocks = wantedRate / 40
        } else {
            blocks = plannedSectors(sectorsAnswered) / 8
            wantedRate = blocks * 4 * Self.stepsPerSecond
        }
        blocks = min(blocks, maxBuffers / 2 - inFlightSectors / 8)
        return max(0, blocks)
    }

    /// Requests went out, or (negative) were refused.
    package mutating func note(requestedSectors: Int) { inFlightSectors += requestedSectors }

    private mutating func plannedSectors(_ sectorsAnswered: Int) -> Int {
        let rate = Self.bounded(options.resyncRate, Self.largestParameter)
        let fillTarget = Self.bounded(options.cFillTarget, Self.largestParameter)
        let delayTarget = Self.bounded(options.cDelayTarget, Self.largestParameter)
        let most = Self.bounded(options.cMaxRate, Self.largestParameter) * 2 / Self.stepsPerSecond

        let wanted: Int
        if inFlightSectors + sectorsAnswered == 0 {
            wanted = (rate * 2 / Self.stepsPerSecond) * plan.count
        } else {
            wanted = fillTarget > 0 ? fillTarget : sectorsAnswered * delayTarget
        }
        let correction = wanted - inFlightSectors - planSum
        let perStep = correction / plan.count
        for index in plan.indices { plan[index] += perStep }
        planSum += perStep * plan.count
        let now = plan[planStart]
        plan[planStart] = 0
        planSum -= now
        planStart = planStart + 1 == plan.count ? 0 : planStart + 1
        return min(max(0, sectorsAnswered + now), most)
    }

    private static func bounded(_ value: Int, _ upper: Int) -> Int { min(max(value, 0), upper) }
}
