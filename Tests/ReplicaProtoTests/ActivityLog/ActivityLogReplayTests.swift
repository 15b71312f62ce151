import Testing

@testable import ReplicaProto

@Suite struct ActivityLogReplayTests {
    static let rings = MetadataVectors.names.filter { $0.hasPrefix("al-") && $0.hasSuffix(".before") }

    /// drbdmeta judged each ring: our replay names the same extents, and what we would write is what it wrote.
    @Test(arguments: rings) func item13ReplayOfEachGoldenRing(name: String) throws {
        let (_, before) = try MetadataVectors.parts(name)
        let (after, written) = try MetadataVectors.parts(name.replacing(".before", with: ".after"))
        let superblock = try Superblock(decoding: before.superblock)
        let verdict = try #require(after.apply_al)
        let application: ActivityLogApplication
        do {
            application = try ActivityLogApplication(superblock: superblock, ring: before.ring)
        } catch {
            // item 18: refused, nothing written.
            #expect(name == "al-all-zero.before")
            #expect(error == .noUsableLog)
            #expect(verdict.exit == 1)
            #expect(verdict.stderr.contains(error.message))
            #expect(written.superblock == before.superblock && written.ring == before.ring)
            #expect(written.bitmap == before.bitmap)
            return
        }
        #expect(verdict.exit == 0)
        var bitmap = before.bitmap
        let added = application.mark(&bitmap)
        #expect(bitmap == written.bitmap)
        let ring =
            application.initialisesRing
            ? Array(repeatElement(ActivityLogTransaction.initialisedBlock(), count: before.ring.count / 4096).joined())
            : before.ring
        #expect(ring == written.ring)
        #expect((application.superblock ?? superblock).encoded() == written.superblock)
        #expect(
            verdict.stderr.contains("Marked additional \(GenerationText.size(kilobytes: added * 4)) as") == (added > 0))
        #expect(
            verdict.stderr.contains("\(application.corruptBlocks) corrupt AL") == (application.corruptBlocks > 0))
        // item 20: again, and nothing changes any more.
        let again = try ActivityLogApplication(
            superblock: Superblock(decoding: written.superblock), ring: written.ring)
        #expect(again.extents.isEmpty && !again.initialisesRing && again.superblock == nil)
    }

    private func hot(_ name: String) throws -> ActivityLogReplay {
        let (_, parts) = try MetadataVectors.parts(name)
        return ActivityLogReplay(
            ring: parts.ring, geometry: ActivityLogGeometry(try Superblock(decoding: parts.superblock)))
    }

    @Test func item14StopsBeforeATornNewestBlock() throws {
        let replay = try hot("al-torn-newest.before")
        #expect(replay.outcome == .updates([0, 1, 2, 6, 7]))
        #expect(replay.corruptBlocks == 1)
        #expect(replay.newestNumber == 10)
    }

    @Test func item15AcrossTheWrapOf32Bits() throws {
        let replay = try hot("al-tr-wrap32.before")
        #expect(replay.outcome == .updates([0, 1, 2, 3, 7]))
        #expect(replay.newestNumber == 5)
    }

    @Test func item16ContextAlone() throws {
        #expect(try hot("al-context-only.before").outcome == .updates([0, 1, 2, 3, 4, 5, 6]))
    }

    @Test func item17WithoutPrimaryIndicatorTheBitmapStays() throws {
        let (_, parts) = try MetadataVectors.parts("al-one-update-secondary.before")
        let application = try ActivityLogApplication(
            superblock: Superblock(decoding: parts.superblock), ring: parts.ring)
        #expect(application.extents.isEmpty)
        #expect(application.initialisesRing)
        #expect(application.superblock?.flags.contains(.activityLogClean) == true)
    }

    @Test func item19FirstBlockDamagedIsEmpty() throws {
        let replay = try hot("al-first-corrupt.before")
        #expect(replay.outcome == .empty)
        #expect(replay.corruptBlocks == 1)
    }

    @Test func item21ExtentsBeyondTheBitmapAreReported() throws {
        let (_, parts) = try MetadataVectors.parts("al-one-update.before")
        let made = ActivityLogTransaction(
            number: 0,
            updates: [
                .init(slot: 0, extent: 31), .init(slot: 1, extent: 32), .init(slot: 2, extent: 0xffff_fffe),
            ],
            contextSize: 1237, contextStart: 0, context: [])
        var ring = parts.ring
        ring.replaceSubrange(0..<4096, with: try #require(made).encoded())
        let application = try ActivityLogApplication(
            superblock: Superblock(decoding: parts.superblock), ring: ring)
        #expect(application.extents == [31])
        #expect(application.extentsBeyond == [32, 0xffff_fffe])
    }

    /// Rows of `metadata.md` 4.10 for a ring that says nothing.
    @Test func unreadableRings() throws {
        let (_, parts) = try MetadataVectors.parts("al-all-zero.before")
        let primary = try Superblock(decoding: parts.superblock)
        var secondary = primary
        secondary.flags.remove(.primaryIndicator)
        let ignored = try ActivityLogApplication(superblock: secondary, ring: parts.ring)
        #expect(ignored.ignoredError == .noUsableLog)
        #expect(ignored.initialisesRing && ignored.superblock?.isUnclean == false)

        var damaged = Array(repeatElement(ActivityLogTransaction.initialisedBlock(), count: 8).joined())
        damaged[3 * 4096 + 100] = 1
        #expect(ActivityLogReplay(ring: damaged, geometry: ActivityLogGeometry()).outcome == .unusable)
        #expect(throws: ActivityLogApplicationError.unusable) {
            try ActivityLogApplication(superblock: primary, ring: damaged)
        }
        // Restored metadata: clean magic above a ring that nobody initialised.
        var restored = primary
        restored.isUnclean = false
        let application = try ActivityLogApplication(superblock: restored, ring: parts.ring)
        #expect(application.initialisesRing && application.extents.isEmpty)
        var old = parts.ring
        old.replaceSubrange(512..<516, with: [0x83, 0x74, 0x02, 0x67])
        #expect(throws: ActivityLogApplicationError.pre84Log) {
            try ActivityLogApplication(superblock: restored, ring: old)
        }
    }

    /// What the kernel left, before and after drbdmeta's `apply-al`.
    @Test(arguments: KernelPairs.all) func kernelAreas(pair: KernelPairs) throws {
        let before = try MetadataVectors.unzip("metadata-kernel/\(pair.before).bin.gz")
        var area = before
        let after = try MetadataVectors.unzip("metadata-kernel/\(pair.after).bin.gz")
        let isInternal = !pair.before.hasPrefix("md-flexible") && !pair.before.hasPrefix("md-indexed")
        let superblockAt = isInternal ? area.count - 4096 : 0
        let superblock = try Superblock(decoding: Array(area[superblockAt..<superblockAt + 4096]))
        let logAt = superblockAt + Int(superblock.activityLogOffset) * 512
        let bitmapAt = superblockAt + Int(superblock.bitmapOffset) * 512
        let ringBytes = Int(ActivityLogGeometry(superblock).blocks) * 4096
        let application = try ActivityLogApplication(
            superblock: superblock, ring: Array(area[logAt..<logAt + ringBytes]))
        var bitmap = Array(area[bitmapAt..<(isInternal ? logAt : area.count)])
        _ = application.mark(&bitmap)
        area.replaceSubrange(bitmapAt..<bitmapAt + bitmap.count, with: bitmap)
        if application.initialisesRing {
            for block in 0..<ringBytes / 4096 {
                area.replaceSubrange(
                    logAt + block * 4096..<logAt + block * 4096 + 4096, with: ActivityLogTransaction.initialisedBlock())
            }
        }
        if let written = application.superblock {
            area.replaceSubrange(superblockAt..<superblockAt + 4096, with: written.encoded())
        }
        #expect(area == after)
    }

    /// Any ring is answered, whatever its blocks say.
    @Test(arguments: Seeds.thisRun) func anyRingIsAnswered(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let (_, parts) = try MetadataVectors.parts("al-wrapped.before")
        let superblock = try Superblock(decoding: parts.superblock)
        for _ in 0..<30 {
            var ring: [UInt8] = []
            for _ in 0..<8 {
                let made = ActivityLogTransaction(
                    number: UInt32.random(in: 0 ... .max, using: &generator),
                    updates: (0..<Int.random(in: 0...64, using: &generator)).map { _ in
                        .init(
                            slot: UInt16.random(in: 0 ... .max, using: &generator),
                            extent: UInt32.random(in: 0 ... .max, using: &generator))
                    },
                    contextSize: UInt16.random(in: 0 ... .max, using: &generator),
                    contextStart: UInt16.random(in: 0 ... .max, using: &generator),
                    context: (0..<Int.random(in: 0...919, using: &generator)).map { _ in
                        UInt32.random(in: 0 ... .max, using: &generator)
                    })
                var block = try #require(made).encoded()
                if Int.random(in: 0..<4, using: &generator) == 0 { block[77] ^= 1 }
                ring += block
            }
            ring.removeLast(Int.random(in: 0..<5, using: &generator) == 0 ? 4096 : 0)
            let replay = ActivityLogReplay(ring: ring, geometry: ActivityLogGeometry())
            if case .updates(let extents) = replay.outcome {
                #expect(extents == Set(extents).sorted() && !extents.contains(.max))
            }
            let application = try? ActivityLogApplication(superblock: superblock, ring: ring)
            if let application { #expect(application.extents.allSatisfy { $0 < 32 }) }
        }
    }
}

/// Areas that a kernel left and drbdmeta then applied the log of.
struct KernelPairs: Sendable, CustomStringConvertible {
    var before: String
    var after: String
    var description: String { before }

    static let all: [KernelPairs] = {
        let moments = [
            ("initial-sync", "clean-after-initial-sync"), ("initial-skip", "clean-never-primary"),
            ("writes-a", "clean-after-writes"), ("writes-b", "clean-after-writes"),
            ("writes-c", "clean-after-writes"), ("bitmap-big-rle", "clean"), ("bitmap-big-plain", "clean"),
            ("crash-primary", "clean-after-recovery"), ("split-brain", "clean-after-split-brain"),
            ("size-mismatch", "clean"), ("md-flexible", "clean-alice-ahead"), ("md-indexed", "clean"),
            ("md-al-striped", "clean"),
        ]
        var pairs = moments.flatMap { scenario, moment in
            ["alice", "bob"].map {
                KernelPairs(
                    before: "\(scenario).\(moment).\($0)", after: "\(scenario).\(moment)-al-applied.\($0)")
            }
        }
        pairs.append(KernelPairs(before: "outdate.outdated-offline.bob", after: "outdate.outdated-offline-al-applied.bob"))
        pairs.append(KernelPairs(before: "crash-alone.clean.alice", after: "crash-alone.clean-al-applied.alice"))
        pairs.append(KernelPairs(before: "md-tools.set-gi.alice", after: "md-tools.set-gi-al-applied.alice"))
        return pairs
    }()
}
