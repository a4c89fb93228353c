// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-lower-layers -o /dev/null
// RUN: not tinymlir-opt %S/inputs/empty.mlir --tiny-lower-layers=target=cortex-m99 2>&1 | FileCheck %s

// CHECK: error: unknown target 'cortex-m99'

// A layer has a body.
// expected-error@+1 {{expects a layer to have one block}}
func.func private @layer0(tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"}

// -----

// It says all that tiny-outline-layers says.
// expected-error@+1 {{expects a layer to have the attribute 'tiny.op'}}
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64} {
  return %x : tensor<4xi8>
}

// -----

// It takes tensors.
// expected-error@+1 {{expects a layer to make one tensor of tensors, of static shape all}}
func.func private @layer0(%x: tensor<4xi8>, %n: index) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"} {
  return %x : tensor<4xi8>
}

// -----

// Their shapes are known.
// expected-error@+1 {{expects a layer to make one tensor of tensors, of static shape all}}
func.func private @layer0(%x: tensor<?xi8>) -> tensor<?xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"} {
  return %x : tensor<?xi8>
}

// -----

// It gives one tensor.
// expected-error@+1 {{expects a layer to make one tensor of tensors, of static shape all}}
func.func private @layer0(%x: tensor<4xi8>) attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"} {
  return
}

// -----

// It computes that.
// expected-error@+1 {{expects a layer to compute its result}}
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"} {
  return %x : tensor<4xi8>
}

// -----

// Only linalg, pads, slices, insertions, concatenations, constants and reshapes have elements that can
// be computed.
func.func private @layer0(%x: tensor<2xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "splat"} {
  %c = arith.constant 1 : i8
  // expected-error@+1 {{has no lowering for 'tensor.splat' within a layer}}
  %y = tensor.splat %c : tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// Insertions leave no gaps.
func.func private @layer0(%x: tensor<2xi8>, %z: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "insert"} {
  // expected-error@+1 {{expects an inserted slice to be static, dense and of the same rank}}
  %y = tensor.insert_slice %x into %z[0] [2] [2] : tensor<2xi8> into tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// Slices drop no dimension.
func.func private @layer0(%x: tensor<4x4xi8>) -> tensor<2xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "slice"} {
  // expected-error@+1 {{expects a slice to be static and to keep the rank}}
  %y = tensor.extract_slice %x[0, 0] [1, 2] [1, 1] : tensor<4x4xi8> to tensor<2xi8>
  return %y : tensor<2xi8>
}

// -----

// Scalars are constants.
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "fill"} {
  %a = arith.constant 1 : i8
  // expected-error@+1 {{expects scalars used by a layer to be constants}}
  %b = arith.addi %a, %a : i8
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.fill ins(%b : i8) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// Tables hold integers.
#map = affine_map<(d0) -> (d0)>
func.func private @layer0(%x: tensor<2xi8>) -> tensor<2xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "table"} {
  // expected-error@+1 {{expects constants that hold whole bytes}}
  %t = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %e = tensor.empty() : tensor<2xi8>
  %y = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]} ins(%t : tensor<2xf32>) outs(%e : tensor<2xi8>) {
  ^bb0(%a: f32, %b: i8):
    %c = arith.fptosi %a : f32 to i8
    linalg.yield %c : i8
  } -> tensor<2xi8>
  return %y : tensor<2xi8>
}

// -----

// An element of the result has one place.
#in = affine_map<(d0) -> (d0)>
#out = affine_map<(d0) -> (d0 * 2)>
func.func private @layer0(%x: tensor<4xi8>) -> tensor<8xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "spread"} {
  %e = tensor.empty() : tensor<8xi8>
  // expected-error@+1 {{expects outputs indexed by plain dimensions}}
  %y = linalg.generic {indexing_maps = [#in, #out], iterator_types = ["parallel"]} ins(%x : tensor<4xi8>) outs(%e : tensor<8xi8>) {
  ^bb0(%a: i8, %b: i8):
    linalg.yield %a : i8
  } -> tensor<8xi8>
  return %y : tensor<8xi8>
}

// -----

// Operands are indexed by sums and products.
#in = affine_map<(d0) -> (d0 floordiv 2)>
#out = affine_map<(d0) -> (d0)>
func.func private @layer0(%x: tensor<4xi8>) -> tensor<8xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "resize"} {
  %e = tensor.empty() : tensor<8xi8>
  // expected-error@+1 {{has no lowering for the index 'd0 floordiv 2'}}
  %y = linalg.generic {indexing_maps = [#in, #out], iterator_types = ["parallel"]} ins(%x : tensor<4xi8>) outs(%e : tensor<8xi8>) {
  ^bb0(%a: i8, %b: i8):
    linalg.yield %a : i8
  } -> tensor<8xi8>
  return %y : tensor<8xi8>
}

// -----

// Linalg ops have one result.
#map = affine_map<(d0) -> (d0)>
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "two"} {
  %e = tensor.empty() : tensor<4xi8>
  // expected-error@+1 {{expects linalg ops to have one result}}
  %y:2 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel"]} ins(%x : tensor<4xi8>) outs(%e, %e : tensor<4xi8>, tensor<4xi8>) {
  ^bb0(%a: i8, %b: i8, %c: i8):
    linalg.yield %a, %a : i8, i8
  } -> (tensor<4xi8>, tensor<4xi8>)
  return %y#1 : tensor<4xi8>
}

// -----

// Bodies have no loops.
#map = affine_map<(d0) -> (d0)>
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "loop"} {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]} ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i8, %b: i8):
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    // expected-error@+1 {{has no lowering for 'scf.for' in a layer's body}}
    %c = scf.for %i = %c0 to %c1 step %c1 iter_args(%t = %a) -> i8 {
      scf.yield %t : i8
    }
    linalg.yield %c : i8
  } -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// A kernel that a layer asks for must be able to compute it.
#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
// expected-error@+1 {{cannot be computed by kernel 'depthwise', only by 'direct'}}
func.func private @layer0(%x: tensor<1x2x2x2xi8>) -> tensor<1x2x2x1xi8> attributes {tiny.kernel = "depthwise", tiny.layer = "a", tiny.macs = 8 : i64, tiny.op = "conv2d"} {
  %c0 = arith.constant 0 : i32
  %w = arith.constant dense<1> : tensor<1x1x1x2xi8>
  %e = tensor.empty() : tensor<1x2x2x1xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<1x2x2x1xi32>) -> tensor<1x2x2x1xi32>
  %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x2x2x2xi8>, tensor<1x1x1x2xi8>) outs(%init : tensor<1x2x2x1xi32>) -> tensor<1x2x2x1xi32>
  %e8 = tensor.empty() : tensor<1x2x2x1xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x2x2x1xi32>) outs(%e8 : tensor<1x2x2x1xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x2x2x1xi8>
  return %y : tensor<1x2x2x1xi8>
}
