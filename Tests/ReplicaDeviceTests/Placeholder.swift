import Testing
@testable import ReplicaDevice
@Test func builds() { }
