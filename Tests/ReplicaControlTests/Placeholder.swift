import Testing
@testable import ReplicaControl
@Test func builds() { }
