# From a project (images/, recipes/, images.lock) to derivations, in plain Nix: no nixpkgs, nothing imported from a
# derivation. What decides the bytes of a layer or an image is computed by build-images itself from the same inputs
# (`build-images step`, docs/reference.md); here is only what is needed to know which inputs those are.
{
  # The project's directory.
  src,
  # A package with bin/build-images that runs on `system`.
  tool,
  # Where images are built. Their packages are amd64's, and so are the scripts that run while they are installed.
  system ? "x86_64-linux",
  # Where .debs and tarballs come from instead of the archive of record: archive or tarball name -> URI of a mirror.
  mirrors ? { },
  # What a machine has to offer to install packages and to make images.
  requiredSystemFeatures ? [ "uid-range" ],
}:
let
  inherit (builtins)
    attrNames attrValues concatLists concatStringsSep elem elemAt filter foldl' fromTOML genList hashString head
    isString length listToAttrs map match mapAttrs pathExists readDir readFile replaceStrings sort split
    stringLength substring toJSON;

  range = count: genList (index: index) count;
  last = list: elemAt list (length list - 1);
  take = count: list: genList (elemAt list) count;
  drop = count: list: genList (index: elemAt list (count + index)) (length list - count);
  unique = foldl' (list: one: if elem one list then list else list ++ [ one ]) [ ];
  endsWith = ending: text:
    let size = stringLength text - stringLength ending; in
    size >= 0 && substring size (stringLength ending) text == ending;
  withoutSlash = uri: if endsWith "/" uri then withoutSlash (substring 0 (stringLength uri - 1) uri) else uri;

  # ---- the project -------------------------------------------------------------------------------------------------

  root = "${toString src}";
  toml = file: fromTOML (readFile (src + "/${file}"));
  imageNames =
    let
      names = filter (name: endsWith ".toml" name && name != "site.toml" && substring 0 1 name != ".")
        (attrNames (readDir (src + "/images")));
    in
    map (name: substring 0 (stringLength name - 5) name) names;
  images = listToAttrs (map (name: { inherit name; value = toml "images/${name}.toml"; }) imageNames);
  recipesOf = image: images.${image}.recipes
    or (throw "build-images: images/${image}.toml has no `recipes`; `build-images check` says all that is wrong");
  recipe = name:
    if pathExists (src + "/recipes/${name}/recipe.toml") then recipes.${name}
    else throw "build-images: there is no recipe `${name}`; `build-images check` says who asks for it";
  recipes = mapAttrs (name: kind: toml "recipes/${name}/recipe.toml") (readDir (src + "/recipes"));

  # ---- the lock ----------------------------------------------------------------------------------------------------

  # Sealed by the hash of all that stands before its last line: a merge or an edit is noticed here too.
  lock =
    if !pathExists (src + "/images/images.lock") then
      throw "build-images: there is no images/images.lock yet; run `build-images lock`"
    else
      let
        text = readFile (src + "/images/images.lock");
        # The seal is the last line: `# seal: `, 64 digits, a line feed.
        size = stringLength text - 73;
        seal = match "# seal: ([0-9a-f]{64})\n" (substring size 73 text);
        lock = fromTOML text;
      in
      if size < 0 || seal == null || head seal != hashString "sha256" (substring 0 size text) then
        throw "build-images: images/images.lock was changed by hand: undo the change, or delete the file and run `build-images lock`"
      else if lock.version != 1 then
        throw "build-images: images/images.lock has format ${toString lock.version}, this flake reads format 1"
      else
        { package = [ ]; tarball = [ ]; archive = [ ]; set = [ ]; } // lock;

  identity = row: "${row.name} ${row.version} ${row.architecture}";
  rows = listToAttrs (map (row: { name = identity row; value = row; }) lock.package);
  sets = listToAttrs (map (set: { name = toJSON set.recipes; value = set; }) lock.set);
  archives = listToAttrs (map (archive: { inherit (archive) name; value = archive; }) lock.archive);
  tarballs = listToAttrs (map (row: { inherit (row) name; value = row; }) lock.tarball);

  # The dates of the suites of an image's archives, those of the first recipe's first.
  suitesOf = names:
    concatLists (map (name: archives.${name}.suite or [ ])
      (concatLists (map (name: attrNames ((recipe name).archive or { })) names)));
  newest = suites: last (sort (a: b: a < b) (map (suite: suite.date) suites));
  # As plan/stage.rs: the suite named like the base's release dates what is made; without one, the newest date.
  epochOf = names:
    let
      suites = suitesOf names;
      release = (recipe (head names)).release or "";
      own = filter (suite: suite.name == release) suites;
    in
    if own != [ ] then (head own).date else newest suites;

  # ---- files from outside ------------------------------------------------------------------------------------------

  # `https://snapshot.example/archive/debian/{timestamp}/` at the newest date that the archive was locked at.
  record = archive:
    replaceStrings [ "{timestamp}" ] [ "${replaceStrings [ "-" ":" ] [ "" "" ] (newest archive.suite)}" ] archive.uri;
  encoded = replaceStrings [ "%" "+" " " "~" ":" ] [ "%25" "%2B" "%20" "~" "%3A" ];
  storeName = name:
    let
      parts = filter isString (split "[^0-9a-zA-Z+._?=-]+" name);
      plain = concatStringsSep "-" parts;
    in
    if plain == "" || substring 0 1 plain == "." then "file-${plain}" else plain;

  fetch = { name, sha256, url }:
    import <nix/fetchurl.nix> {
      inherit sha256 url;
      name = storeName name;
    };
  debOf = row:
    fetch {
      inherit (row) sha256;
      name = last (filter isString (split "/" row.path));
      url = "${withoutSlash (mirrors.${row.archive} or (record archives.${row.archive}))}/${encoded row.path}";
    };
  tarballOf = row:
    let file = last (filter isString (split "/" (head (split "[?#]" row.url)))); in
    fetch {
      inherit (row) sha256;
      name = file;
      url = if mirrors ? ${row.name} then "${withoutSlash mirrors.${row.name}}/${file}" else row.url;
    };
  debs = mapAttrs (_: debOf) rows;

  # ---- steps -------------------------------------------------------------------------------------------------------

  step = name: features: order:
    derivation {
      inherit system;
      name = storeName name;
      builder = "${tool}/bin/build-images";
      args = [ "step" ];
      order = toJSON order;
      passAsFile = [ "order" ];
      requiredSystemFeatures = features;
    };

  # The lists of recipes that become the layers of an image, as plan/request.rs: the base, and each that installs.
  prefixes = names:
    let installs = index: index == 0 || ((recipe (elemAt names index)).packages.install or [ ]) != [ ]; in
    map (index: take (index + 1) names) (filter installs (range (length names)));

  # The lists of recipes whose packages lie one on the other in an image, the lowest first. What the lock has not, no
  # layer can be made of; the image's own step then says what is missing.
  chainOf = names:
    let
      add = below: prefix:
        let set = sets.${toJSON prefix} or null; in
        if set == null then below
        # Nothing of the layers below fits: all is built at once.
        else (if set.alone or false then [ ] else below) ++ [ prefix ];
    in
    foldl' add [ ] (prefixes names);
  heights = chain: map (index: take (index + 1) chain) (range (length chain));

  # Every layer once, however many images have it. A date and the lists of recipes up to its own are all it depends on
  # beside the lock and the recipes.
  layers =
    let
      ofImage = names:
        let epoch = epochOf names; in
        map (chain: { name = toJSON [ epoch chain ]; value = layer epoch chain; }) (heights (chainOf names));
    in
    listToAttrs (concatLists (map (name: ofImage (recipesOf name)) imageNames));
  layersOf = names: map (chain: layers.${toJSON [ (epochOf names) chain ]}) (heights (chainOf names));

  layer = epoch: chain:
    let
      prefix = last chain;
      below = take (length chain - 1) chain;
      set = sets.${toJSON prefix};
      # Recipes that no layer below has brought yet.
      new = if below == [ ] then prefix else drop (length (last below)) prefix;
      accounts = map
        (name: { recipe = name; group = (recipe name).group or [ ]; user = (recipe name).user or [ ]; })
        new;
      given = member:
        let row = rows.${identity member}; in
        { inherit (row) name version architecture size sha256; deb = "${debs.${identity member}}"; };
      asked = filter (member: elem member.reason [ "requested" "essential" "required" ]) set.packages;
    in
    step "layer-${concatStringsSep "-" prefix}" requiredSystemFeatures {
      step = "layer";
      recipes = prefix;
      inherit accounts epoch;
      below = map (lower: "${layers.${toJSON [ epoch lower ]}}") (heights below);
      packages = map given set.packages;
      requested = map (member: member.name) asked;
    };

  # The files of one image: its own, its recipes' and the site's. Others may change without it.
  projectOf = name:
    let
      used = recipesOf name;
      isUsed = path:
        let relative = substring (stringLength root + 1) (stringLength path) path; in
        elem relative [ "images" "recipes" "images/site.toml" "images/${name}.toml" "images/keys" ]
        || match "images/keys/.*" relative != null
        || (let inside = match "recipes/([^/]+)(/.*)?" relative; in inside != null && elem (head inside) used);
    in
    builtins.path { path = src; name = storeName "project-${name}"; filter = path: kind: isUsed (toString path); };

  image = name:
    let
      used = recipesOf name;
      known = filter (set: set != null) (map (prefix: sets.${toJSON prefix} or null) (prefixes used));
      members = concatLists (map (set: set.packages) known);
      packages = attrValues (listToAttrs (map (member: { name = identity member; value = rows.${identity member}; }) members));
      named = kind: concatLists (map (one: kind (recipe one)) used);
      # Archives of packages that a lower list took from elsewhere are among those of the recipes.
      archiveNames = unique (named (one: attrNames (one.archive or { })));
      tarballNames = unique (named (one: map (row: row.name) (one.tarball or [ ])));
      tarballRows = map (one: tarballs.${one}) (filter (one: tarballs ? ${one}) tarballNames);
    in
    step "image-${name}" requiredSystemFeatures {
      step = "image";
      image = name;
      project = "${projectOf name}";
      lock = {
        version = 1;
        package = packages;
        tarball = tarballRows;
        archive = map (one: archives.${one}) (filter (one: archives ? ${one}) archiveNames);
        set = known;
      };
      layers = map (one: "${one}") (layersOf used);
      tarballs = listToAttrs (map (row: { name = row.sha256; value = "${tarballOf row}"; }) tarballRows);
    };

  # All that `build-images check` reads.
  project = builtins.path {
    path = src;
    name = "project";
    filter = path: kind:
      match "(images|recipes)(/.*)?" (substring (stringLength root + 1) (stringLength (toString path)) (toString path)) != null;
  };

  # Whether the lock has every list of recipes of an image.
  isLocked = name:
    builtins.all (prefix: sets ? ${toJSON prefix}) (prefixes (recipesOf name))
    && builtins.all (one: tarballs ? ${one})
      (concatLists (map (one: map (row: row.name) ((recipe one).tarball or [ ])) (recipesOf name)));

  imageDerivations = listToAttrs (map (name: { inherit name; value = image name; }) imageNames);
  renamed = prefix: set: listToAttrs (map (name: { name = "${prefix}${name}"; value = set.${name}; }) (attrNames set));
  collected = step "images" [ ] {
    step = "collect";
    images = mapAttrs (_: drv: "${drv}") imageDerivations;
  };
in
{
  # Every image by name.
  images = imageDerivations;
  # All of them, as `result/` has them.
  all = collected;
  # What a flake puts into `packages.<system>`: image-<name>, and images.
  packages = renamed "image-" imageDerivations // { images = collected; };
  # What a flake puts into `checks.<system>`: the project as `build-images check` sees it, and each locked image's
  # artifact against its own manifest.
  checks = {
    project = step "check-project" [ ] { step = "check"; project = "${project}"; };
  } // listToAttrs (map
    (name: {
      name = "image-${name}";
      value = step "check-${name}" [ ] { step = "verify"; artifact = "${imageDerivations.${name}}/${name}"; };
    })
    (filter isLocked imageNames));
  # For those who look inside: the layers of each image, the lowest first, and every .debs by `name version architecture`.
  layers = mapAttrs (name: _: layersOf (recipesOf name)) images;
  inherit debs;
}
