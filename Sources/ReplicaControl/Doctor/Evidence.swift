import ReplicaProto

/// All that is known of one resource when the doctor begins to think: no conclusions, and no way to ask for more.
package struct Evidence: Equatable, Sendable {
    /// Where the resource stands in the configuration.
    package enum Presence: Equatable, Sendable {
        case configured
        /// Nobody of that name.
        case unknown
        /// It is there, for hosts of these names only.
        case otherHosts([String])
        /// Why the configuration can't be read.
        case unreadable(String)
    }

    package enum Daemon: Equatable, Sendable {
        case running
        /// It does not run, and ended in good order.
        case down
        /// It left its files behind.
        case dead(process: Int32)
        /// It takes connections and does not answer. `state` is the kernel's letter for the process.
        case silent(process: Int32?, state: Character?)
        /// It can't be asked, for that reason.
        case unreachable(String)
    }

    package var resource: String
    /// This host, and the other one; "the peer" where the configuration does not say.
    package var node: String
    package var peer = "the peer"
    /// `10.0.0.1:7788`
    package var address = ""
    package var peerAddress = ""
    package var presence = Presence.configured
    package var daemon = Daemon.running
    package var lastDisconnect = LastDisconnect()
    package var volumes: [VolumeEvidence] = []
    /// What came of a try to reach the peer's port; nil if it was not tried.
    package var port: PortAnswer?
    /// How `replctl` has to be called here.
    package var program = "replctl"

    package init(resource: String, node: String) {
        self.resource = resource
        self.node = node
    }
}

package struct VolumeEvidence: Equatable, Sendable {
    package var number: VolumeNumber
    package var minor: UInt32
    /// `/dev/drbd0`
    package var device: String
    /// What lies below it, and the number of bytes there.
    package var disk: String
    package var metaDisk: String
    /// How commands name the volume.
    package var target: String
    /// What the daemon says; nil if it was not asked, or does not have this volume.
    package var status: VolumeStatus?
    /// What was found on the disk; nil while the daemon has it.
    package var metadata: MetadataEvidence?
    /// Who has the device open.
    package var holders: [Holder] = []
    /// Who has the disk open that should be nobody's but the daemon's.
    package var diskHolders: [Holder] = []

    package init(number: VolumeNumber, minor: UInt32, device: String, disk: String, target: String) {
        self.number = number
        self.minor = minor
        self.device = device
        self.disk = disk
        metaDisk = disk
        self.target = target
    }
}

/// Somebody who has a device open.
package enum Holder: Equatable, Sendable {
    case process(Int32, name: String)
    case mount(String)
    /// Another block device that lies on it.
    case device(String)

    package var text: String {
        switch self {
        case .process(let number, let name): "\(name) (process \(number))"
        case .mount(let place): "the mount \(place)"
        case .device(let name): "the device \(name)"
        }
    }
}

/// What lies where a volume's metadata should be.
package enum MetadataEvidence: Equatable, Sendable {
    case good(MetadataFlags, GenerationIdentifiers)
    /// Nothing, on a disk that is empty.
    case blank
    /// None, on a disk that holds something: what, as far as it can be told.
    case otherData(String)
    /// Of another format.
    case otherFormat(String)
    /// The disk grew: it is where the disk ended before.
    case moved(fromBytes: UInt64, toBytes: UInt64)
    /// It is ours, and impossible.
    case damaged(String)
    case tooSmall(bytes: UInt64)
    case unreadable(String)
}

/// What a try to connect to a port comes to.
package enum PortAnswer: Equatable, Sendable {
    case accepts
    /// ECONNREFUSED
    case refused
    /// Nothing came back in time.
    case silence
    /// EHOSTUNREACH, EHOSTDOWN
    case hostUnreachable
    /// ENETUNREACH
    case noRoute
    /// EADDRNOTAVAIL: we don't have the address that we should call from.
    case ownAddressMissing
    case failed(String)
}
