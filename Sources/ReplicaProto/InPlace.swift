/// A stored property of this type keeps a large structure where it is: a method that only reads it is handed its address.
///
/// Without it the compiler copies the bytes of the whole structure for each such call from a mutating method, because it
/// passes by value what it can load (Swift 6.3: 1.3 KiB for a resource, 3 KiB for its loop, several times a request).
/// What holds a value of unknown type can't be loaded.
package struct InPlace: Sendable {
    private let unknown: any Sendable = ()
    package init() {}
}
