// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-lower-patches -o /dev/null

// A tile holds the rows of a window.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{keeps 2 rows, but its readers need 3}}
    %t = "tiny.patch_tile"(%a) {rows = 2 : i64, columns = 4 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @both(%x: tensor<1x6x4x1xi8>, %z: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "both", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %z : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// It holds the columns of a strip with its halo.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{keeps 2 columns, but its readers need 3}}
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @both(%x: tensor<1x6x4x1xi8>, %z: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "both", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %z : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// Only what an elementwise layer reads last can lie where that one writes.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{must not be in place}}
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 4 : i64, tiny.in_place} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @both(%x: tensor<1x6x4x1xi8>, %z: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "both", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %z : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// Inner tensors have tiles.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@-1 {{expects a 'tiny.patch_tile' on its result}}
    %c = func.call @window(%a) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @both(%x: tensor<1x6x4x1xi8>, %z: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "both", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %z : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// Rows of a layer are one function, for one place in one stage.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %t = "tiny.patch_tile"(%a) {rows = 1 : i64, columns = 4 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{runs 'peak' in stages a second time: give it a copy}}
    %b = func.call @peak(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    "tiny.patch_yield"(%b) : (tensor<1x6x4x1xi8>) -> ()
  }) {strips = 1 : i64} : () -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// A cache has what the next strip needs.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    // expected-error@+1 {{keeps 1 cached columns, but its readers need 2}}
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 3 : i64, tiny.cached_columns = 1 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
