import Testing
@testable import ReplicaSim
@Test func builds() { }
