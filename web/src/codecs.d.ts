declare module "@jsquash/jpeg/codec/dec/mozjpeg_dec.js";
declare module "@jsquash/webp/codec/dec/webp_dec.js";
