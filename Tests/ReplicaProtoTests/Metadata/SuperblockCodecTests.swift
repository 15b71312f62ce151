import Testing

@testable import ReplicaProto

@Suite struct SuperblockCodecTests {
    /// Every field of every golden superblock, as a program that is not ours read it; and back to the same bytes.
    @Test(arguments: MetadataVectors.names) func item5GoldenFields(name: String) throws {
        let (entry, parts) = try MetadataVectors.parts(name)
        let fields = try #require(entry.superblock)
        let superblock = try Superblock(decoding: parts.superblock)
        func hex(_ value: UInt64) -> String { GenerationText.hex(value, digits: 16) }
        #expect(hex(superblock.identifiers.current) == fields.current_uuid)
        #expect(hex(superblock.identifiers.bitmap) == fields.bitmap_uuid)
        #expect([superblock.identifiers.history0, superblock.identifiers.history1].map(hex) == fields.history_uuids)
        #expect(hex(superblock.deviceUUID) == fields.device_uuid)
        #expect("0x" + String(superblock.flags.rawValue, radix: 16).leftPadded(8) == fields.flags)
        #expect(superblock.isUnclean == (fields.magic == "0x8374026c"))
        #expect(superblock.lastAgreedSectors == fields.la_size_sect)
        #expect(superblock.metadataSectors == fields.md_size_sect)
        #expect(superblock.activityLogOffset == fields.al_offset)
        #expect(superblock.activityLogExtents == fields.al_nr_extents)
        #expect(superblock.bitmapOffset == fields.bm_offset)
        #expect(superblock.bytesPerBit == fields.bm_bytes_per_bit)
        #expect(superblock.peerMaximumRequest == fields.la_peer_max_bio_size)
        #expect(superblock.activityLogStripes == fields.al_stripes)
        #expect(superblock.activityLogStripeSize == fields.al_stripe_size_4k)
        #expect(superblock.encoded() == parts.superblock)
        _ = try MetadataLayout(entry.index, superblock: superblock, deviceSectors: entry.device_size / 512)
        #expect(GenerationText.line(superblock) == entry.get_gi)
        #expect(superblock.flags.offlineDiskState.name == entry.dstate)
    }

    @Test func item6StripesOfOldMetadata() throws {
        var block = try MetadataLayout(.internal, deviceSectors: 65536).freshSuperblock().encoded()
        for index in 0x58..<0x60 { block[index] = 0 }
        let old = try Superblock(decoding: block)
        #expect(old.activityLogStripes == 1 && old.activityLogStripeSize == 8)
        block[0x5b] = 1
        #expect(throws: MetadataError.stripes(count: 1, blocks: 0)) { try Superblock(decoding: block) }
        block[0x5b] = 0
        block[0x5f] = 8
        #expect(throws: MetadataError.stripes(count: 0, blocks: 8)) { try Superblock(decoding: block) }
    }

    @Test func item7Unclean() throws {
        var superblock = try MetadataLayout(.internal, deviceSectors: 65536).freshSuperblock()
        #expect(!superblock.needsActivityLogApplied)
        superblock.isUnclean = true
        #expect(superblock.needsActivityLogApplied)
        superblock.isUnclean = false
        superblock.flags.remove(.activityLogClean)
        #expect(superblock.needsActivityLogApplied)
    }

    @Test(arguments: [
        ("recog-v07-fixed-internal", MetadataFormat.v07), ("recog-v07-flex-internal", .v07),
        ("recog-v09-internal", .v09),
    ]) func item8OtherFormatsAreNamed(name: String, format: MetadataFormat) throws {
        let block = Array(try MetadataVectors.area(name).prefix(4096))
        #expect(throws: MetadataError.otherFormat(format)) { try Superblock(decoding: block) }
        #expect(MetadataError.otherFormat(format).message.contains(format.rawValue))
    }

    @Test func item9EachWrongFieldIsRejected() throws {
        for index in [MetadataIndex.internal, .flexible, .indexed(1)] {
            let layout = try MetadataLayout(index, deviceSectors: 524288)
            let good = layout.freshSuperblock()
            #expect(try MetadataLayout(index, superblock: good, deviceSectors: 524288) == layout)
            func rejected(_ change: (inout Superblock) -> Void) -> Bool {
                var bad = good
                change(&bad)
                do {
                    _ = try MetadataLayout(index, superblock: bad, deviceSectors: 524288)
                    return false
                } catch {
                    return !error.message.isEmpty
                }
            }
            #expect(rejected { $0.activityLogOffset += 8 })
            #expect(rejected { $0.bitmapOffset -= 8 })
            #expect(rejected { $0.metadataSectors += 8 })
            #expect(rejected { $0.bytesPerBit = 8192 })
            #expect(rejected { $0.activityLogStripes = 2 })
            #expect(rejected { $0.lastAgreedSectors = .max })
        }
    }

    @Test(arguments: Seeds.thisRun) func anyBytesAreAnswered(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let good = try MetadataLayout(.internal, deviceSectors: 65536).freshSuperblock().encoded()
        for round in 0..<2000 {
            var block = good
            for _ in 0..<(round % 20) {
                block[Int.random(in: 0..<0x60, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            if round % 2 == 0 { block.replaceSubrange(0x3c..<0x40, with: [0x83, 0x74, 0x02, 0x6b]) }
            guard let superblock = try? Superblock(decoding: block) else { continue }
            #expect(try Superblock(decoding: superblock.encoded()) == superblock)
            for index in [MetadataIndex.internal, .flexible, .indexed(3)] {
                _ = try? MetadataLayout(
                    index, superblock: superblock, deviceSectors: UInt64.random(in: 0 ... .max, using: &generator))
            }
        }
        #expect(throws: MetadataError.truncated(4095)) { try Superblock(decoding: Array(good.dropLast())) }
        #expect(throws: MetadataError.noMagic) { try Superblock(decoding: [UInt8](repeating: 0, count: 4096)) }
    }

    /// The five rows of `metadata.md` 6.4.
    @Test func item36DiskStateFromFlags() {
        for fencing in [FencingPolicy.dontCare, .resourceOnly, .resourceAndStonith] {
            for peer in [MetadataFlags(), .peerOutdated] {
                #expect(peer.diskState(fencing: fencing) == .inconsistent)
                #expect(peer.union(.wasUpToDate).diskState(fencing: fencing) == .inconsistent)
                #expect(peer.union(.consistent).diskState(fencing: fencing) == .outdated)
                let upToDate = peer.union([.consistent, .wasUpToDate])
                let expected: DiskState = peer.isEmpty && fencing != .dontCare ? .consistent : .upToDate
                #expect(upToDate.diskState(fencing: fencing) == expected)
                #expect(upToDate.rememberedPeerDisk == (peer.isEmpty ? .unknown : .outdated))
            }
        }
    }

    @Test func generationLines() throws {
        let fresh = try MetadataLayout(.internal, deviceSectors: 65536).freshSuperblock()
        let line = "1122334455667788:99AABBCCDDEEFF00:0102030405060708:A1A2A3A4A5A6A7A8:1:1:1:1:1:1:1"
        let set = try #require(GenerationText.apply(line, to: fresh))
        #expect(GenerationText.line(set) == line)
        #expect(set.flags == MetadataFlags(rawValue: 0xff))
        #expect(GenerationText.apply("", to: set) == set)
        #expect(GenerationText.apply(":::", to: set) == set)
        let kept = try #require(GenerationText.apply(":4::::0", to: set))
        #expect(kept.identifiers.bitmap == 4 && kept.identifiers.current == set.identifiers.current)
        #expect(!kept.flags.contains(.wasUpToDate) && kept.flags.contains(.consistent))
        for bad in ["x", "1:2:3:4:2", "11223344556677889", "1:2:3:4:1:1:1:1:1:1:1:1", "-1", "0x"] {
            #expect(GenerationText.apply(bad, to: fresh) == nil)
        }
        let explained = GenerationText.explained(set)
        #expect(explained.contains("flags: crashed Primary, Connected, UpToDate, need full sync, peer Outdated\n"))
        let plain = GenerationText.explained(fresh)
        #expect(plain.contains("flags: Secondary, StandAlone, Inconsistent\nmeta-data: clean\n"))
    }

    @Test(arguments: [
        (0, "0 KB"), (9999, "9999 KB"), (10000, "10 MB"), (12288, "12 MB"), (32728, "32 MB"), (1 << 30, "1024 GB"),
    ] as [(UInt64, String)]) func sizes(kilobytes: UInt64, text: String) {
        #expect(GenerationText.size(kilobytes: kilobytes) == text)
    }
}

extension String {
    fileprivate func leftPadded(_ length: Int) -> String {
        String(repeating: "0", count: max(0, length - count)) + self
    }
}
