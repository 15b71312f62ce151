import ReplicaProto

/// What a control connection that has said `watch` is told.
enum Watch: UInt8 {
    case off
    /// Every change of state.
    case all
    /// It does not read fast enough: the state as it is once it has read what waits for it.
    case missed

    /// Bytes that may wait for one watcher.
    static let backlog = 1 << 20
}

/// `replctl events2`: the state after every step that changed it, and the handlers.
extension ResourceLoop {
    mutating func startWatching(_ index: Int) {
        if control.list[index].watch == .off {
            if let refusal = refusalToWait { return answerControl(index, refusal) }
            control.watchers += 1
        }
        control.list[index].watch = .all
        answerControl(index, CommandAnswer(code: 0, text: resourceStatus().text))
    }

    mutating func stopWatching(_ index: Int) {
        guard control.list[index].watch != .off else { return }
        control.list[index].watch = .off
        control.watchers -= 1
    }

    /// After the step in which the state changed.
    mutating func tellWatchers() {
        control.hasNews = false
        guard control.watchers > 0 else { return }
        tellWatchers(resourceStatus().text)
    }

    /// In good order: nothing of it exists any more.
    mutating func tellWatchersOfEnd() {
        guard control.watchers > 0 else { return }
        if control.hasNews { tellWatchers() }
        var status = resourceStatus()
        status.volumes = []
        tellWatchers(status.text)
        for index in 0..<ControlTable.connections { stopWatching(index) }
    }

    /// - Parameter exitCode: of one that has ended.
    mutating func tellWatchers(handler: HandlerName, _ volume: VolumeNumber?, exitCode: Int32? = nil) {
        guard control.watchers > 0 else { return }
        // What it is run for comes first.
        if control.hasNews { tellWatchers() }
        let line = EventLines.handler(
            settings.resource, handler.rawValue, volume.map { ($0, minor(of: $0)) }, exitCode: exitCode)
        tellWatchers(line + "\n")
    }

    private mutating func tellWatchers(_ text: String) {
        for index in 0..<ControlTable.connections where control.list[index].watch == .all {
            if control.list[index].output.waitingBytes < Watch.backlog {
                answerControl(index, CommandAnswer(code: 0, text: text))
            } else {
                control.list[index].watch = .missed
            }
        }
    }

    mutating func tellWhatWasMissed(_ index: Int) {
        guard control.list[index].watch == .missed, control.list[index].output.isEmpty else { return }
        startWatching(index)
    }
}
