import Glibc
import ReplicaDevice

exit(Daemon.main(Array(CommandLine.arguments.dropFirst())))
