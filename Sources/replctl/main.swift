import Glibc
import ReplicaControl

exit(Replctl.run(CommandLine.arguments, in: .current(arguments: CommandLine.arguments)))
