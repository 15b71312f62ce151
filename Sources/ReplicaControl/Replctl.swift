import ReplicaProto

/// The command line tool under all its names.
package enum Replctl {
    /// Runs one command line; the first argument is the program's own name.
    /// - Returns: the exit code.
    package static func run(_ arguments: [String], in environment: ToolEnvironment) -> Int32 {
        let words = Array(arguments.dropFirst())
        switch (environment.kind, words.first) {
        case (.drbdsetup, _): return runSetup(words, in: environment)
        case (.replctl, "setup"): return runSetup(Array(words.dropFirst()), in: environment)
        case (.drbdmeta, _): return MetadataCall.run(words, environment: environment)
        case (.replctl, "meta"): return MetadataCall.run(Array(words.dropFirst()), environment: environment)
        default:
            var tool = AdminTool(environment: environment)
            return tool.run(words)
        }
    }

    private static func runSetup(_ words: [String], in environment: ToolEnvironment) -> Int32 {
        var tool = SetupTool(environment: environment)
        return tool.run(words)
    }
}
