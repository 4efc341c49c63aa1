// What the page uses of hyparquet, for `tsc`: written down by us.
export interface AsyncBuffer { byteLength: number; slice(start: number, end?: number): Promise<ArrayBuffer> }
export interface FileMetaData { row_groups: { num_rows: bigint; columns: { meta_data?: { path_in_schema: string[]; total_compressed_size: bigint; statistics?: { min_value?: unknown; max_value?: unknown } } }[] }[] }
export declare function parquetMetadataAsync(file: AsyncBuffer, options?: { initialFetchSize?: number }): Promise<FileMetaData>;
export declare function parquetReadObjects(options: {
  file: AsyncBuffer; metadata?: FileMetaData; columns?: string[]; rowStart?: number; rowEnd?: number; useOffsetIndex?: boolean;
}): Promise<Record<string, any>[]>;
