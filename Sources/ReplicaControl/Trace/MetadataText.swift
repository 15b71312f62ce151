import ReplicaProto

/// A superblock in words (`metadata.md` section 1).
enum SuperblockText {
    static func text(_ superblock: Superblock, at offset: Int) -> String {
        let geometry = ActivityLogGeometry(superblock)
        let sectors = superblock.lastAgreedSectors
        var text = "superblock v08 at byte \(offset), \(superblock.isUnclean ? "unclean: attached, or not detached in order" : "clean")\n"
        text += "data: \(sectors) sectors (\(sectors / 2) KiB) were agreed upon with the peer last\n"
        text += "device identifier: \(GenerationText.hex(superblock.deviceUUID, digits: 16))\n"
        text += "metadata: \(superblock.metadataSectors) sectors\n"
        text += "activity log: \(place(superblock.activityLogOffset)), \(geometry.stripes) stripe(s) of \(geometry.stripeBlocks) blocks of 4096 bytes, "
        text += "\(superblock.activityLogExtents) extents of 4 MiB\n"
        text += "bitmap: \(place(superblock.bitmapOffset)), one bit for \(superblock.bytesPerBit) bytes\n"
        text += "largest request of the peer: \(superblock.peerMaximumRequest) bytes\n"
        text += GenerationText.explained(superblock)
        if superblock.flags.contains(.activityLogDisabled) { text += "the activity log was switched off\n" }
        text +=
            superblock.needsActivityLogApplied
            ? "the activity log has to be applied before the bitmap counts\n" : "the bitmap counts as it is\n"
        return text
    }

    private static func place(_ offset: Int32) -> String {
        "\(abs(Int64(offset))) sectors \(offset < 0 ? "before" : "behind") the superblock"
    }
}

/// An activity log in words, block by block, then what it comes to (`metadata.md` section 4).
enum ActivityLogText {
    static func looksLikeLog(_ block: [UInt8]) -> Bool {
        block.count >= 4 && block.span.bytes.readBE32(at: 0) == ActivityLogTransaction.magic
    }

    static func text(_ ring: [UInt8], _ geometry: ActivityLogGeometry) -> String {
        var text = ""
        let size = ActivityLogTransaction.blockBytes
        for block in 0..<ring.count / size {
            let bytes = ring.span.bytes.extracting(block * size..<(block + 1) * size)
            text += "activity log block \(block): "
            do throws(ActivityLogBlockError) {
                text += describe(try ActivityLogTransaction(decoding: bytes)) + "\n"
            } catch {
                switch error {
                case .wrongLength(let count): text += "\(count) bytes instead of \(size)\n"
                case .wrongMagic(let magic): text += "no transaction (magic \(GenerationText.hex(UInt64(magic), digits: 8)))\n"
                case .wrongChecksum(let stored, let computed):
                    text +=
                        "damaged: checksum \(GenerationText.hex(UInt64(stored), digits: 8)), computed \(GenerationText.hex(UInt64(computed), digits: 8))\n"
                }
            }
        }
        guard ring.count >= Int(geometry.blocks) * size else { return text }
        let replay = ActivityLogReplay(ring: ring, geometry: geometry)
        switch replay.outcome {
        case .updates(let hot):
            text += "hot: \(hot.count) extents\(hot.isEmpty ? "" : ": ")" + hot.map { String($0) }.joined(separator: " ") + "\n"
        case .empty: text += "hot: none, the log is as initialised\n"
        case .noUsableLog: text += "hot: unknown, no block holds a transaction\n"
        case .unusable: text += "hot: unknown, blocks that count are damaged\n"
        }
        return text
    }

    private static func describe(_ transaction: ActivityLogTransaction) -> String {
        if transaction.type == ActivityLogTransaction.typeInitialised { return "initialised" }
        var text = "transaction \(transaction.number)"
        for update in transaction.updates {
            text +=
                ", slot \(update.slot) "
                + (update.extent == ActivityLogTransaction.freeExtent ? "free" : "extent \(update.extent)")
        }
        let known = transaction.context.count { $0 != ActivityLogTransaction.freeExtent }
        return text + "; context: slots \(transaction.contextStart) to \(Int(transaction.contextStart) + transaction.context.count - 1) of \(transaction.contextSize), \(known) in use"
    }
}
