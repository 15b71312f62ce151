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
        let device = MetadataArguments.words(volume)
        if command.first == "create-md" {
            // drbdadm keeps the device's UUID, or makes one; drbdmeta alone leaves it zero.
            return MetaTool.createKeepingDeviceUUID(
                device: device, options: Array(command.dropFirst()), console: console(of: environment))
        }
        return run(device + command, environment: environment)
    }

    /// Notes where the metadata of a disk in use lies, for the day when the disk grows while nobody looks.
    static func noteSize(of volume: ResolvedVolume, environment: ToolEnvironment) {
        MetaTool.noteSize(device: MetadataArguments.words(volume), console: console(of: environment))
    }

    /// `MINOR FORMAT DEVICE INDEX COMMAND [ARGUMENTS]`, in `drbdmeta`'s grammar.
    static func run(_ arguments: [String], environment: ToolEnvironment) -> Int32 {
        MetaTool.run(arguments: arguments, console: console(of: environment))
    }

    private static func console(of environment: ToolEnvironment) -> MetaConsole {
        var console = MetaConsole.standard
        console.write = environment.console.writeOutput
        console.writeError = environment.console.writeError
        console.isInteractive = environment.isInputTerminal
        return console
    }
}
