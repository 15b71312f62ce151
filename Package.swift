// swift-tools-version: 6.2
import PackageDescription

/// Warnings are errors everywhere; the core also spells out every unsafe expression.
let strict: [SwiftSetting] = [.treatAllWarnings(as: .error), .enableUpcomingFeature("ExistentialAny")]
let core: [SwiftSetting] = strict + [.strictMemorySafety()]

let package = Package(
    name: "replica",
    products: [
        .executable(name: "replicad", targets: ["replicad"]),
        .executable(name: "replctl", targets: ["replctl"]),
        .executable(name: "replsim", targets: ["replsim"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2")
    ],
    targets: [
        .systemLibrary(name: "CUring", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CNetlink", pkgConfig: "libnl-genl-3.0", providers: [.apt(["libnl-genl-3-dev"])]),
        .target(name: "CLinux"),
        .target(name: "ReplicaProto", swiftSettings: core),
        .target(
            name: "ReplicaDevice",
            dependencies: [
                "ReplicaProto", "CUring", "COpenSSL", "CNetlink", "CLinux", .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: strict),
        .target(name: "ReplicaControl", dependencies: ["ReplicaProto", "CLinux"], swiftSettings: strict),
        .target(name: "ReplicaSim", dependencies: ["ReplicaProto"], swiftSettings: strict),
        .executableTarget(name: "replicad", dependencies: ["ReplicaDevice"], swiftSettings: strict),
        .executableTarget(name: "replctl", dependencies: ["ReplicaControl"], swiftSettings: strict),
        .executableTarget(name: "replsim", dependencies: ["ReplicaSim"], swiftSettings: strict),
        .testTarget(
            name: "ReplicaProtoTests", dependencies: ["ReplicaProto"], resources: [.copy("Vectors")],
            swiftSettings: strict),
        .testTarget(name: "ReplicaDeviceTests", dependencies: ["ReplicaDevice"], swiftSettings: strict),
        .testTarget(name: "ReplicaSimTests", dependencies: ["ReplicaSim"], swiftSettings: strict),
        .testTarget(
            name: "ReplicaControlTests", dependencies: ["ReplicaControl", "ReplicaProto"], exclude: ["Trace/Captures"],
            swiftSettings: strict),
    ]
)
