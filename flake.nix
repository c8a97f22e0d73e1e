{
  description = "Debian 13 LXC images for Proxmox VE, compiled from declarative recipes and one lock";

  # Needed to compile the tool and for the shell only. Images need no nixpkgs: without it, or in another's place, give
  # `--override-input nixpkgs …` (docs/fleet.md).
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      eachSystem = each: builtins.listToAttrs (map (system: { name = system; value = each system; }) systems);

      # The sources of the program, without what changes more often than it.
      sources = builtins.path {
        path = ./.;
        name = "build-images-source";
        filter = path: kind:
          let relative = builtins.substring (builtins.stringLength (toString ./.) + 1) (builtins.stringLength path) path; in
          builtins.match "(src|\\.cargo|Cargo.toml|Cargo.lock|build.rs)(/.*)?" relative != null;
      };
      tool = system: nixpkgs.legacyPackages.${system}.rustPlatform.buildRustPackage {
        pname = "build-images";
        version = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).package.version;
        src = sources;
        cargoLock.lockFile = ./Cargo.lock;
        # They need root, namespaces of their own and a Debian mirror; .ci/run has them.
        doCheck = false;
        meta = {
          description = "Compiles declarative recipes and one lock file into LXC images for Proxmox VE";
          mainProgram = "build-images";
          platforms = systems;
        };
      };

      # Images are amd64's, so they are built on x86_64-linux: here, or on a builder, when the caller is of another kind.
      builders = "x86_64-linux";
      # What another flake calls: `mkImages { src = ./.; }`. nix/images.nix has all arguments.
      mkImages = arguments: import ./nix/images.nix ({ tool = tool builders; } // arguments);
      own = mkImages { src = ./.; };
    in
    {
      lib = { inherit mkImages; };

      packages = eachSystem (system:
        let program = tool system; in
        { build-images = program; default = program; } // own.packages);

      apps = eachSystem (system:
        let
          program = {
            type = "app";
            program = "${tool system}/bin/build-images";
            meta.description = "Compiles declarative recipes and one lock file into LXC images for Proxmox VE";
          };
        in
        { build-images = program; default = program; });

      checks = eachSystem (system: { build-images = tool system; } // own.checks);

      devShells = eachSystem (system:
        let pkgs = nixpkgs.legacyPackages.${system}; in
        {
          default = pkgs.mkShell {
            packages = [ pkgs.cargo pkgs.rustc pkgs.rustfmt pkgs.clippy pkgs.cargo-insta ];
          };
        });

      templates.default = {
        path = ./nix/template;
        description = "A project of images with its own flake";
      };
    };
}
