{
  description = "Images for Proxmox VE";

  # The repository of build-images: a URL as in `nix flake init -t URL`, or a path.
  inputs.build-images.url = "git+https://git.example.org/build-images";

  outputs = { self, build-images }:
    let
      # `images/`, `recipes/` and `images/images.lock` of this directory. Before the first build, and after each change
      # of what recipes install: `build-images lock`, or `nix run URL -- lock` with the URL above.
      made = build-images.lib.mkImages { src = ./.; };
    in
    {
      packages.x86_64-linux = made.packages;
      checks.x86_64-linux = made.checks;
    };
}
