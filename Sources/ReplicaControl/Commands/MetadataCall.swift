import ReplicaProto

/// Calls of the offline metadata tool, with this call's console.
enum MetadataCall {
    /// For a volume of the configuration. Metadata in use is left alone.
    static func run(_ volume: ResolvedVolume, _ command: [String], running: VolumeStatus?, environment: ToolEnvironment)
        -> Int32
    {
        if let running, running.state.disk != .diskless {
            environment.console.complain("Device '\(volume.minor)' is configured!")
            return 20
        }
        return run(MetadataArguments.words(volume) + command, environment: environment)
    }

    /// `MINOR FORMAT DEVICE INDEX COMMAND [ARGUMENTS]`, in `drbdmeta`'s grammar.
    static func run(_ arguments: [String], environment: ToolEnvironment) -> Int32 {
        let console = console(of: environment)
        if arguments.count >= 5, arguments[4] == "create-md" {
            return MetaTool.createKeepingDeviceUUID(
                device: Array(arguments[0..<4]), options: Array(arguments[5...]), console: console)
        }
        return MetaTool.run(arguments: arguments, console: console)
    }

    private static func console(of environment: ToolEnvironment) -> MetaConsole {
        var console = MetaConsole.standard
        console.write = environment.console.writeOutput
        console.writeError = environment.console.writeError
        console.isInteractive = environment.isInputTerminal
        return console
    }
}
