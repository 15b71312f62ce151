import Glibc
import ReplicaProto

/// Where recordings go: beside the log, the newest one under each name.
extension ResourceLoop {
    var recordingPath: String { "\(runDirectory)/\(settings.resource).recording" }

    /// On request.
    func writeRecording() -> CommandAnswer {
        guard recorder.write(to: recordingPath) else {
            return CommandAnswer(code: ControlTable.invalidRequest, text: "\(recordingPath): \(SystemError.text(errno))")
        }
        return CommandAnswer(code: 0, text: recordingPath + "\n")
    }

    /// From now on a broken invariant leaves a recording before it ends the process.
    func watchInvariants() {
        let path = recordingPath + ".crash"
        let recorder = recorder
        let log = log
        invariantWitness = { fact in
            let isWritten = recorder.write(to: path)
            log.critical("invariant broken: \(fact); \(isWritten ? "recording in \(path)" : "no recording: \(SystemError.text(errno))")")
        }
    }
}
