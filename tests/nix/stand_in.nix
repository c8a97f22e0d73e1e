# Stands in nixpkgs' place: instead of compiling the program it packs one that is compiled already.
{
  outputs = { self }:
    let
      part = name: path: builtins.path { inherit name path; };
      tools = part "tools" ./bin;
      libraries = part "libraries" ./lib;
      program = part "program" ./program;
      packages = {
        rustPlatform.buildRustPackage = arguments: derivation {
          name = "${arguments.pname}-${arguments.version}";
          system = "x86_64-linux";
          builder = "${tools}/busybox";
          args = [
            "sh"
            "-ec"
            ''
              ${tools}/busybox mkdir -p $out/bin
              ${tools}/busybox cp ${program}/build-images $out/bin/build-images
              ${tools}/busybox chmod 755 $out/bin/build-images
              loader=${libraries}/ld-linux-x86-64.so.2
              $loader --library-path ${libraries} ${tools}/patchelf --set-interpreter $loader \
                --set-rpath ${libraries} $out/bin/build-images
              $out/bin/build-images --version
            ''
          ];
        };
        mkShell = arguments: derivation {
          name = "shell";
          system = "x86_64-linux";
          builder = "${tools}/busybox";
        };
        cargo = null;
        rustc = null;
        rustfmt = null;
        clippy = null;
        cargo-insta = null;
      };
    in
    { legacyPackages = { x86_64-linux = packages; aarch64-linux = packages; }; };
}
