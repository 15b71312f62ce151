import Glibc
import ReplicaControl

let words = Array(CommandLine.arguments.dropFirst())
let program = CommandLine.arguments.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? "replctl"
if program == "drbdmeta" { exit(MetaTool.run(arguments: words)) }
if words.first == "meta" { exit(MetaTool.run(arguments: Array(words.dropFirst()))) }
