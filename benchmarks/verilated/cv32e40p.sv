// CV32E40P with or without its PULP instructions, without a floating-point unit.
module core #(
    parameter bit Pulp = 1'b0
) (
    input  logic        clk_i,
    input  logic        rst_ni,
    input  logic [31:0] boot_address_i,

    output logic        instr_req_o,
    output logic [31:0] instr_addr_o,
    input  logic        instr_rvalid_i,
    input  logic [31:0] instr_rdata_i,

    output logic        data_req_o,
    output logic        data_we_o,
    output logic [ 3:0] data_be_o,
    output logic [31:0] data_addr_o,
    output logic [31:0] data_wdata_o,
    input  logic        data_rvalid_i,
    input  logic [31:0] data_rdata_i,

    // Whether an instruction leaves the decode stage for good in this cycle, and which.
    output logic        done_o,
    output logic [31:0] pc_o
);
  cv32e40p_top #(.COREV_PULP(Pulp)) top (
      .clk_i,
      .rst_ni,
      .pulp_clock_en_i    (1'b0),
      .scan_cg_en_i       (1'b0),
      .boot_addr_i        (boot_address_i),
      .mtvec_addr_i       (32'h0),
      .dm_halt_addr_i     (32'h0),
      .hart_id_i          (32'h0),
      .dm_exception_addr_i(32'h0),
      .instr_req_o,
      .instr_gnt_i        (1'b1),
      .instr_rvalid_i,
      .instr_addr_o,
      .instr_rdata_i,
      .data_req_o,
      .data_gnt_i         (1'b1),
      .data_rvalid_i,
      .data_we_o,
      .data_be_o,
      .data_addr_o,
      .data_wdata_o,
      .data_rdata_i,
      .irq_i              (32'h0),
      .irq_ack_o          (),
      .irq_id_o           (),
      .debug_req_i        (1'b0),
      .debug_havereset_o  (),
      .debug_running_o    (),
      .debug_halted_o     (),
      .fetch_enable_i     (1'b1),
      .core_sleep_o       ()
  );

  // What the core itself counts as retired.
  assign done_o = top.core_i.id_stage_i.minstret;
  assign pc_o   = top.core_i.pc_id;
endmodule
