import Glibc
import ReplicaProto

/// A hand-over from the side of the program that ends, then from the side of the one that takes its place in the process.
struct HandOverState {
    enum Phase {
        case none
        /// What passes by itself is in the way.
        case waiting
        /// No request is begun; those in work are answered.
        case pausing
        case goingDown
        /// The loop ends, and the other program begins.
        case ready
        /// What ran before is brought back, command by command.
        case restoring
        /// Roles come back, and the peer.
        case promoting
    }

    /// A volume that is to be Primary again.
    struct Promotion {
        var volume: VolumeNumber
        /// Under way.
        var command: CommandID?
        var isDone = false
        var nextTry: UInt64 = 0
    }

    var phase = Phase.none
    /// RUN/RES.hand-over: for the program that takes over, and if that one dies on its way, for the one after it.
    let file: String
    /// What is handed over, or was.
    var record = HandOver()
    /// Who asked, in `ControlTable`, and of which generation.
    var asker: (index: Int, generation: UInt32) = (-1, 0)
    var program = ""
    var isForced = false
    /// When this program took over.
    var begun: UInt64 = 0
    /// What the phase waits for ends now at the latest.
    var deadline = UInt64.max
    /// When to look again.
    var looksAt = UInt64.max
    /// The `down` of the end, or a command that brings something back.
    var command: CommandID?
    var nextCommand = 0
    var promotions: [Promotion] = []
    var failures: [String] = []
    /// The answer to `hand-over-result`.
    var result = CommandAnswer(code: ControlTable.invalidRequest, text: "this daemon has taken nothing over")

    init(takesOver: HandOver?, file: String, resource: String) {
        self.file = file
        if let takesOver {
            record = takesOver
            phase = .restoring
            looksAt = 0
            promotions = takesOver.primaries.map { Promotion(volume: $0.volume) }
        } else if let text = Daemon.readWhole(file) {
            // Left by one that died on its way. Only its generations still mean something.
            if let left = try? HandOver(parsing: text, resource: resource) { record.primaries = left.primaries }
        }
    }

    /// The daemon is not what monitors and clients should see.
    var isUnderWay: Bool {
        switch phase {
        case .goingDown, .ready, .restoring, .promoting: true
        case .none, .waiting, .pausing: false
        }
    }

    /// The volume's role is brought back here, and not by what the kernel or the metadata tell.
    func restores(_ volume: VolumeNumber) -> Bool {
        switch phase {
        case .restoring, .promoting: record.primaries.contains { $0.volume == volume }
        case .none, .waiting, .pausing, .goingDown, .ready: false
        }
    }

    var nextDeadline: UInt64 { phase == .none ? .max : min(deadline, looksAt) }
}
