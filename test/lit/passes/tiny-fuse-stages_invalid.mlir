// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-fuse-stages -o /dev/null

// A stage is one run of calls.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %a = call @peak(%x) {tiny.stage = 0 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  %b = call @peak(%a) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  // expected-error@+1 {{belongs to stage 0, which ended above}}
  %c = call @window(%b) {tiny.stage = 0 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %c : tensor<1x4x2x1xi8>
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

// It gives one tensor, that of its last layer.
func.func @main(%x: tensor<1x6x4x1xi8>) -> (tensor<1x6x4x1xi8>, tensor<1x4x2x1xi8>) {
  // expected-error@+1 {{gives a tensor that is read beyond its stage}}
  %a = call @peak(%x) {tiny.stage = 0 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  %c = call @window(%a) {tiny.stage = 0 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %a, %c : tensor<1x6x4x1xi8>, tensor<1x4x2x1xi8>
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

// All of it runs in the same strips.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %a = call @peak(%x) {tiny.stage = 0 : i64, tiny.strips = 1 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  // expected-error@+1 {{belongs to a stage of which others ask for other strips}}
  %c = call @window(%a) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %c : tensor<1x4x2x1xi8>
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

// Two columns make one strip or two.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %a = call @peak(%x) {tiny.stage = 0 : i64, tiny.strips = 3 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  // expected-error@+1 {{cannot make 2 columns in 3 strips of one width}}
  %c = call @window(%a) {tiny.stage = 0 : i64, tiny.strips = 3 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %c : tensor<1x4x2x1xi8>
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

// A layer that reads all rows at once cannot wait for one after another.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> {
  // expected-error@+1 {{cannot run 'flip' (transpose) row by row}}
  %a = call @flip(%x) {tiny.stage = 0 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %a : tensor<1x6x4x1xi8>
}
func.func private @flip(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "flip", tiny.macs = 0 : i64, tiny.op = "transpose"} {
  %s = tensor.empty() : tensor<1x4x6x1xi8>
  %r = tensor.collapse_shape %x [[0], [1, 2], [3]] : tensor<1x6x4x1xi8> into tensor<1x24x1xi8>
  %y = tensor.expand_shape %r [[0], [1, 2], [3]] output_shape [1, 6, 4, 1] : tensor<1x24x1xi8> into tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// Rows that arrive one by one are never there as a whole.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> attributes {tiny.input = "streamed"} {
  // expected-error@+1 {{reads a streamed input, and is in no stage with others}}
  %a = call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %a : tensor<1x6x4x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// They pass once.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> attributes {tiny.input = "streamed"} {
  // expected-error@+1 {{takes rows as they come: expects one strip and one input}}
  %a = call @peak(%x) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %a : tensor<1x6x4x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// Strips share no columns of the result.
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %a = call @peak(%x) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  // expected-error@+1 {{caches columns of 'window', which no two strips need}}
  %c = call @window(%a) {tiny.stage = 0 : i64, tiny.strips = 2 : i64, tiny.cached} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %c : tensor<1x4x2x1xi8>
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
