// The core's own manifest, which names its files below DESIGN_RTL_DIR.
-f ${RTL}/cv32e40p_manifest.flist
