import ReplicaProto
enum Placeholder {}
