import Testing
@testable import ReplicaProto
@Test func builds() { }
