//! Namespaces, id maps, system-call filters and limits around maintainer scripts. The only module with unsafe code.
