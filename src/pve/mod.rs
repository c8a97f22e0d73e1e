//! Proxmox VE's side of the contract: container configuration as it parses and writes it, and its limits.
