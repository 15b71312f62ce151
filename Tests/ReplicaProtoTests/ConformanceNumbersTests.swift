import Foundation
import Testing

/// The checklists at the end of the specifications: every item has a test or a scenario that bears its number.
@Suite struct ConformanceNumbersTests {
    /// Where the tests of the metadata's checklist are; those of the wire's are in the rest of the core's tests.
    static let metadata = [
        "ReplicaProtoTests/Metadata/", "ReplicaProtoTests/ActivityLog/", "ReplicaProtoTests/Bitmap/",
        "ReplicaProtoTests/Units/CRC32C",
        "ReplicaProtoTests/Core/MetadataOrder", "ReplicaControlTests/Meta/", "ReplicaControlTests/Support/",
        "ReplicaSimTests/",
        "Integration/drbdmeta", "Integration/large-sectors",
    ]

    static func files() throws -> [(name: String, text: String)] {
        let base = TidyTests.root.appendingPathComponent("Tests")
        let names = try #require(FileManager.default.enumerator(atPath: base.path))
        var result: [(String, String)] = []
        for case let name as String in names where name.hasSuffix(".swift") || name.hasSuffix(".sh") {
            result.append((name, try String(contentsOf: base.appendingPathComponent(name), encoding: .utf8)))
        }
        return result
    }

    /// Numbers behind the word "item" or "items", one or several.
    static func items(_ text: String) -> Set<Int> {
        var numbers: Set<Int> = []
        for match in text.matches(of: /\b[iI]tems? ?(\d+(?:(?:, | and )\d+)*)/) {
            for number in match.output.1.matches(of: /\d+/) { if let value = Int(number.output) { numbers.insert(value) } }
        }
        return numbers
    }

    @Test("every item of wire.md 11 and every hazard of wire.md 12 has a test")
    func wire() throws {
        var items: Set<Int> = []
        var hazards: Set<Int> = []
        for (name, text) in try Self.files()
        where name.hasPrefix("ReplicaProtoTests/") && !Self.metadata.contains(where: { name.hasPrefix($0) }) {
            items.formUnion(Self.items(text))
            for match in text.matches(of: /\bZ(\d+)|AndZ(\d+)/) {
                for number in match.output.0.matches(of: /\d+/) {
                    if let value = Int(number.output) { hazards.insert(value) }
                }
            }
        }
        #expect(Set(1...55).subtracting(items).isEmpty)
        #expect(Set(1...14).subtracting(hazards).isEmpty)
    }

    @Test("every item of control.md 10 has a test")
    func control() throws {
        var items: Set<Int> = []
        for (name, text) in try Self.files()
        where (!name.hasPrefix("ReplicaProtoTests/") || name.hasPrefix("ReplicaProtoTests/Control/"))
            && !Self.metadata.contains(where: { name.hasPrefix($0) })
        {
            items.formUnion(Self.items(text))
        }
        #expect(Set(1...50).subtracting(items).isEmpty)
    }

    @Test("every item of metadata.md 10 has a test")
    func onDisk() throws {
        var items: Set<Int> = []
        for (name, text) in try Self.files() where Self.metadata.contains(where: { name.hasPrefix($0) }) {
            items.formUnion(Self.items(text))
        }
        #expect(Set(1...48).subtracting(items).isEmpty)
    }
}
